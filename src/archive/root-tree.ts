/**
 * A directory tree that strangers name paths in: every path is resolved inside the root by the kernel (openat2), and
 * acted on through the descriptor of its parent directory. Symlinks on the way are followed as a process chrooted
 * there would; the last name never is.
 *
 * Words: the *real path* of a directory is its clean path inside the root with no symlink in it. Open directories are
 * kept in a small cache by the path they were asked for; whoever removes or replaces a directory or a symlink calls
 * `forget`. Everything is synchronous: for workers.
 */
import { constants } from "node:fs";
import { EngineError, systemCode } from "../base/errors.ts";
import {
  AT_FDCWD,
  AT_REMOVEDIR,
  closeRead,
  type FileStat,
  fchmodat,
  fchownat,
  getXattr,
  mkdirat,
  O,
  openat2,
  RESOLVE,
  readDirectory,
  readlinkat,
  statat,
  unlinkat,
} from "../host/sys.ts";
import { type ByteString, bytesOf, joinPath, longestPath, nameOf, quoted } from "./bytes.ts";

/** An open directory; it belongs to the tree and is good until the next call that opens or forgets. */
export type Directory = {
  readonly fd: number;
  /** Real path. */
  readonly path: ByteString;
  /** New entries take an access list over from it, which no archive asked for. */
  readonly handsDownAcl: boolean;
  /** Its group is root's, so what root makes in it is, too: also with a setgid bit, and where the mount says so. */
  readonly givesRootGroup: boolean;
};

export type TreeHooks = {
  /** Before a name goes: its real path, and where it stands. */
  readonly beforeRemove?: (path: ByteString, stat: FileStat, at: Location) => void;
  /** A directory was opened, and may be worked in next: its real path. */
  readonly onOpen?: (path: ByteString) => void;
  /** After a directory was made because something below it was. */
  readonly afterImplied?: (path: ByteString) => void;
};

export type Location = { readonly fd: number; readonly name: ByteString };

const kept = 64;
const mostSymlinks = 40;
const inside = RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS;

export const fileType = (mode: number): number => mode & constants.S_IFMT;
export const isDirectory = (mode: number): boolean => fileType(mode) === constants.S_IFDIR;
export const isFile = (mode: number): boolean => fileType(mode) === constants.S_IFREG;
export const isSymlink = (mode: number): boolean => fileType(mode) === constants.S_IFLNK;

/** `statat`, or undefined when nothing is there. */
export function findStat(fd: number, name: ByteString): FileStat | undefined {
  try {
    return statat(fd, nameOf(name));
  } catch (error) {
    if (systemCode(error) === "ENOENT") return undefined;
    throw error;
  }
}

/** Opens the directory `name` itself, never what a symlink of that name says. */
export const openDirectory = (fd: number, name: ByteString): number =>
  openat2(fd, nameOf(name), { flags: O.RDONLY | O.DIRECTORY | O.NOFOLLOW, resolve: RESOLVE.BENEATH });

export class RootTree implements Disposable {
  readonly fd: number;
  readonly #hooks: TreeHooks;
  readonly #open = new Map<ByteString, Directory>();

  /** `root` is a path of our own choice. */
  constructor(root: string, hooks: TreeHooks = {}) {
    this.fd = openat2(AT_FDCWD, root, { flags: O.RDONLY | O.DIRECTORY });
    this.#hooks = hooks;
  }

  /** The directory at a clean path, or undefined when there is none. */
  find(path: ByteString): Directory | undefined {
    return this.#cached(path) ?? this.#walk(path, false);
  }

  /**
   * The directory at a clean path; what is missing on the way is made (0755, root), also where a dangling symlink
   * leads, and what is no directory gives way to one.
   */
  make(path: ByteString): Directory {
    const directory = this.#cached(path) ?? this.#walk(path, true);
    if (directory === undefined) throw new EngineError("internal", `${quoted(path)}: no directory came to be`);
    return directory;
  }

  /** Removes `name` with everything in it. */
  remove(directory: Directory, name: ByteString, stat: FileStat): void {
    this.#remove(directory.fd, joinPath(directory.path, name), { name, stat });
    if (isDirectory(stat.mode) || isSymlink(stat.mode)) this.forget();
  }

  /** As `remove`, in a directory that the caller opened; the caller calls `forget`. */
  removeAt(at: Location, path: ByteString, stat: FileStat): void {
    this.#remove(at.fd, path, { name: at.name, stat });
  }

  /** Closes a cached directory whose attributes have changed. */
  reopen(path: ByteString): void {
    for (const [asked, directory] of this.#open) {
      if (directory.path !== path) continue;
      closeRead(directory.fd);
      this.#open.delete(asked);
    }
  }

  /** Closes the cached directories; paths may lead elsewhere now. */
  forget(): void {
    for (const directory of this.#open.values()) closeRead(directory.fd);
    this.#open.clear();
  }

  [Symbol.dispose](): void {
    this.forget();
    closeRead(this.fd);
  }

  #cached(path: ByteString): Directory | undefined {
    const known = this.#open.get(path);
    if (known !== undefined) {
      this.#open.delete(path);
      this.#open.set(path, known);
      return known;
    }
    return this.#straight(path);
  }

  /** One call, where no symlink stands on the way. */
  #straight(path: ByteString): Directory | undefined {
    try {
      const flags = O.RDONLY | O.DIRECTORY;
      const name = path === "" ? "." : nameOf(path);
      return this.#keep(path, openat2(this.fd, name, { flags, resolve: inside | RESOLVE.NO_SYMLINKS }), path);
    } catch (error) {
      const code = systemCode(error);
      if (code === "ENOENT" || code === "ENOTDIR" || code === "ELOOP") return undefined;
      throw error;
    }
  }

  #keep(asked: ByteString, fd: number, path: ByteString): Directory {
    if (this.#open.size >= kept) {
      const oldest = this.#open.entries().next().value;
      if (oldest !== undefined) {
        this.#open.delete(oldest[0]);
        closeRead(oldest[1].fd);
      }
    }
    try {
      const handsDownAcl = getXattr(fd, "", "system.posix_acl_default") !== undefined;
      const directory = { fd, path, handsDownAcl, givesRootGroup: statat(fd, "").gid === 0 };
      this.#open.set(asked, directory);
      this.#hooks.onOpen?.(path);
      return directory;
    } catch (error) {
      closeRead(fd);
      throw error;
    }
  }

  /** Component by component, with the directories above at hand, so that `..` in a symlink never asks the kernel. */
  #walk(path: ByteString, make: boolean): Directory | undefined {
    const above: { readonly fd: number; readonly path: ByteString }[] = [];
    const todo = path.split("/").reverse();
    let links = 0;
    const here = (): { readonly fd: number; readonly path: ByteString } => above.at(-1) ?? { fd: this.fd, path: "" };
    try {
      for (let name = todo.pop(); name !== undefined; name = todo.pop()) {
        if (name === "" || name === ".") continue;
        if (name === "..") {
          const left = above.pop();
          if (left !== undefined) closeRead(left.fd);
          continue;
        }
        const { fd, path: parent } = here();
        const stat = findStat(fd, name);
        if (stat !== undefined && isSymlink(stat.mode)) {
          if (++links > mostSymlinks)
            throw new EngineError("invalid_argument", `too many levels of symbolic links in ${quoted(path)}`);
          const target = bytesOf(readlinkat(fd, nameOf(name)));
          if (target.startsWith("/")) for (const { fd: open } of above.splice(0)) closeRead(open);
          todo.push(...target.split("/").reverse());
          continue;
        }
        if (stat === undefined || !isDirectory(stat.mode)) {
          if (!make) return undefined;
          this.#hooks.onOpen?.(parent);
          this.#imply(fd, joinPath(parent, name), { name, stat });
        }
        above.push({ fd: openDirectory(fd, name), path: joinPath(parent, name) });
      }
      const last = above.pop();
      if (last !== undefined) return this.#keep(path, last.fd, last.path);
      return this.#keep(path, openat2(this.fd, ".", { flags: O.RDONLY | O.DIRECTORY }), "");
    } finally {
      for (const { fd } of above) closeRead(fd);
    }
  }

  #imply(fd: number, path: ByteString, at: { readonly name: ByteString; readonly stat: FileStat | undefined }): void {
    if (path.length >= longestPath)
      throw new EngineError("invalid_argument", `${quoted(path)}... has a path of ${path.length} bytes`);
    if (at.stat !== undefined) this.#remove(fd, path, { name: at.name, stat: at.stat });
    const name = nameOf(at.name);
    mkdirat(fd, name, 0o755);
    resetDirectory(fd, at.name);
    this.#hooks.afterImplied?.(path);
  }

  #remove(fd: number, path: ByteString, at: { readonly name: ByteString; readonly stat: FileStat }): void {
    const { name, stat } = at;
    if (!isDirectory(stat.mode)) {
      this.#hooks.beforeRemove?.(path, stat, { fd, name });
      unlinkat(fd, nameOf(name));
      return;
    }
    const directory = openDirectory(fd, name);
    try {
      for (const entry of readDirectory(directory)) {
        const child = bytesOf(entry);
        const childStat = findStat(directory, child);
        if (childStat !== undefined) this.#remove(directory, joinPath(path, child), { name: child, stat: childStat });
      }
    } finally {
      closeRead(directory);
    }
    this.#hooks.beforeRemove?.(path, stat, { fd, name });
    unlinkat(fd, nameOf(name), AT_REMOVEDIR);
  }
}

/** What a directory is that an archive implies but does not describe: 0755, root's. */
export function resetDirectory(fd: number, name: ByteString): void {
  fchownat(fd, nameOf(name), 0, 0);
  fchmodat(fd, nameOf(name), 0o755);
}
