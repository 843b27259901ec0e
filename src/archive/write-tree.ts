/**
 * Writes what stands in a tree as tar entries: the reading side of packing and of layer tars. Files are opened without
 * following links and described by what was opened, so that a container that changes its tree meanwhile can confuse
 * only its own archive: what vanishes is left out, what shrinks is filled with zeros. Sockets have no place in a tar.
 * Further names of an inode become hard links to the first. Synchronous reads inside: for workers.
 */
import { constants, readSync } from "node:fs";
import { EngineError, systemCode } from "../base/errors.ts";
import type { Name } from "../host/libc.ts";
import {
  closeRead,
  type FileStat,
  getXattr,
  listXattrs,
  O,
  openat2,
  RESOLVE,
  readlinkat,
  statat,
} from "../host/sys.ts";
import { overlayMarkPrefix } from "../host/user-namespace.ts";
import { type ByteString, bytesOf, longestPath, nameOf, quoted } from "./bytes.ts";
import type { EntryType } from "./read-tar.ts";
import { fileType, isFile, type Location } from "./root-tree.ts";
import { sparseMapOf, writeSparse } from "./sparse-file.ts";
import type { TreeCopy } from "./tree-copy.ts";
import type { NewEntry, TarWriter } from "./write-tar.ts";

/**
 * The name an attribute has in the archive, or undefined for one that stays out. Throws for one that says that what it
 * stands on, at `path`, cannot be read from here.
 */
export type XattrNames = (name: string, path: ByteString) => string | undefined;

/** What a mounted tree shows: everything but the label that the host's policy puts on files, and overlayfs' own. */
export const viewXattrs: XattrNames = (name) =>
  name === "security.selinux" || /^(trusted|user)\.overlay\./.test(name) ? undefined : name;

/** As {@link viewXattrs}, where no overlayfs is between: its attributes are data of the tree. */
export const plainXattrs: XattrNames = (name) => (name === "security.selinux" ? undefined : name);

/** What an upper directory shows from below: overlayfs' own attributes stay out, escaped ones are data. */
export const upperXattrs: XattrNames = (name) => {
  if (name === "security.selinux") return undefined;
  const own = overlayMarkPrefix();
  if (!name.startsWith(own)) return name;
  const rest = name.slice(own.length);
  return rest.startsWith("overlay.") ? own + rest.slice("overlay.".length) : undefined;
};

const noXattrs: ReadonlyMap<string, Buffer> = new Map();
/** Files of so many bytes are read at once. */
const small = 64 * 1024;

export const readXattrs = (
  at: Location,
  names: XattrNames,
  path: ByteString = at.name,
): ReadonlyMap<string, Buffer> => {
  const all = listXattrs(at.fd, nameOf(at.name));
  if (all.length === 0) return noXattrs;
  const found = new Map<string, Buffer>();
  for (const name of all) {
    const shown = names(name, path);
    const value = shown === undefined ? undefined : getXattr(at.fd, nameOf(at.name), name);
    if (shown !== undefined && value !== undefined) found.set(shown, value);
  }
  return found;
};

/** Opens for reading, below `dirFd`, without leaving a new access time where the kernel allows that. */
export function openQuietly(dirFd: number, name: Name, flags: number): number {
  try {
    return openat2(dirFd, name, { flags: flags | O.NOATIME, resolve: RESOLVE.BENEATH });
  } catch (error) {
    // Only an owner may read and leave no trace.
    if (systemCode(error) !== "EPERM") throw error;
    return openat2(dirFd, name, { flags, resolve: RESOLVE.BENEATH });
  }
}

/** True for the errors of names that went or changed under our hands. */
export const isGone = (error: unknown): boolean =>
  ["ENOENT", "ENOTDIR", "ELOOP", "ENXIO"].includes(systemCode(error) ?? "");

/** Owner and mode that entries get instead of their own. */
export type EntryOwner = { readonly uid?: number; readonly gid?: number; readonly mode?: number };

export type TreeWriterOptions = EntryOwner & {
  /** Times to the nanosecond; cut to seconds otherwise, as in Docker's archives. */
  readonly exactTimes?: boolean | undefined;
  /** Files with holes are written as GNU tar's sparse files, without their holes. */
  readonly sparse?: boolean | undefined;
  /** Gets every entry, too; not with `sparse`. */
  readonly copy?: TreeCopy | undefined;
};

export class TreeWriter {
  readonly #tar: TarWriter;
  readonly #names: XattrNames;
  readonly #owner: EntryOwner;
  readonly #exactTimes: boolean;
  readonly #sparse: boolean;
  readonly #copy: TreeCopy | undefined;
  readonly #linked = new Map<string, ByteString>();

  constructor(tar: TarWriter, names: XattrNames, options: TreeWriterOptions = {}) {
    const { exactTimes = false, sparse = false, copy, ...owner } = options;
    this.#sparse = sparse;
    this.#copy = copy;
    this.#tar = tar;
    this.#names = names;
    this.#owner = owner;
    this.#exactTimes = exactTimes;
  }

  /** Writes what `at` names as `path`, without what is in it. False when it vanished or cannot be in a tar. */
  async add(at: Location, stat: FileStat, path: ByteString): Promise<boolean> {
    checkLength(path);
    const type = entryType(stat.mode);
    if (type === undefined) return false;
    try {
      if (type === "file") return await this.addFile(at, path);
      if (await this.#link(stat, type, path)) return true;
      const link = type === "symlink" ? bytesOf(readlinkat(at.fd, nameOf(at.name))) : "";
      const { rdevMajor: major, rdevMinor: minor } = stat;
      const device = type === "char" || type === "block" ? { major, minor } : {};
      const entry = { ...this.#attributes(at, stat, path), path, type, link, ...device };
      await this.#copy?.add(entry);
      await this.#tar.begin(entry);
      await this.#tar.end();
      this.#remember(stat, path);
      return true;
    } catch (error) {
      if (isGone(error)) return false;
      throw error;
    }
  }

  /** The same for a regular file that nobody has looked at yet. No promise where it is small, as most are. */
  addFile(at: Location, path: ByteString): Promise<boolean> | boolean {
    checkLength(path);
    let later: Promise<boolean> | undefined;
    let fd: number | undefined;
    try {
      fd = openQuietly(at.fd, nameOf(at.name), O.RDONLY | O.NOFOLLOW | O.NONBLOCK);
      const stat = statat(fd, "");
      if (!isFile(stat.mode)) return false;
      if (stat.nlink < 2 && stat.size <= small && !this.#hasHoles(stat) && this.#smallFile(fd, stat, path)) return true;
      later = this.#file(fd, stat, path);
      return later;
    } catch (error) {
      if (isGone(error)) return false;
      throw error;
    } finally {
      if (fd !== undefined && later === undefined) closeRead(fd);
    }
  }

  /** False when there is no room for it in one piece; then nothing is written. */
  #smallFile(fd: number, stat: FileStat, path: ByteString): boolean {
    const entry = { ...this.#attributes({ fd, name: "" }, stat, path), path, type: "file", size: stat.size } as const;
    const space = this.#tar.beginHere(entry);
    if (space === undefined) return false;
    using copy = this.#copy?.file(entry);
    let length = 0;
    for (let read = -1; read !== 0 && length < space.length; length += read)
      read = readSync(fd, space, length, space.length - length, length);
    if (length > 0) copy?.write(space.subarray(0, length));
    copy?.finish();
    this.#tar.endHere(length);
    return true;
  }

  /** Closes the file. */
  async #file(fd: number, stat: FileStat, path: ByteString): Promise<boolean> {
    try {
      if (await this.#link(stat, "file", path)) return true;
      const attributes = this.#attributes({ fd, name: "" }, stat, path);
      const map = this.#hasHoles(stat) ? sparseMapOf(fd, stat.size) : undefined;
      if (map === undefined) await this.#content(fd, { ...attributes, path, type: "file", size: stat.size });
      else {
        await this.#tar.begin({ ...attributes, path, type: "file", size: map.size, sparseSize: stat.size });
        await writeSparse(this.#tar, fd, map);
        await this.#tar.end();
      }
      this.#remember(stat, path);
      return true;
    } catch (error) {
      if (isGone(error)) return false;
      throw error;
    } finally {
      closeRead(fd);
    }
  }

  #hasHoles = ({ blocks, size }: FileStat): boolean => this.#sparse && blocks * 512 < size;

  async #content(fd: number, entry: NewEntry): Promise<void> {
    await this.#tar.begin(entry);
    using copy = this.#copy?.file(entry);
    for (let at = 0; this.#tar.missing > 0; ) {
      const space = await this.#tar.space();
      const length = readSync(fd, space, 0, space.length, at);
      if (length === 0) break;
      copy?.write(space.subarray(0, length));
      at += length;
      this.#tar.filled(length);
    }
    copy?.finish();
    await this.#tar.end(true);
  }

  #attributes(at: Location, stat: FileStat, path: ByteString): Omit<NewEntry, "path" | "type"> {
    const { mode, uid, gid, mtimeSec: mtime } = stat;
    const mtimeNsec = this.#exactTimes ? stat.mtimeNsec : 0;
    return { mode, uid, gid, mtime, mtimeNsec, xattrs: readXattrs(at, this.#names, path), ...this.#owner };
  }

  /** A further name of something written already. */
  async #link(stat: FileStat, type: EntryType, path: ByteString): Promise<boolean> {
    if (type === "directory" || stat.nlink < 2) return false;
    const link = this.#linked.get(`${stat.dev}:${stat.ino}`);
    if (link === undefined) return false;
    const { mode, uid, gid, mtimeSec: mtime } = stat;
    const entry: NewEntry = { path, type: "link", link, mode, uid, gid, mtime, ...this.#owner };
    await this.#copy?.add(entry);
    await this.#tar.add(entry);
    return true;
  }

  #remember(stat: FileStat, path: ByteString): void {
    if (stat.nlink > 1 && fileType(stat.mode) !== constants.S_IFDIR) this.#linked.set(`${stat.dev}:${stat.ino}`, path);
  }
}

function checkLength(path: ByteString): void {
  if (path.length > longestPath)
    throw new EngineError("unsupported", `${quoted(path)}... has a path of ${path.length} bytes: no archive holds it`);
}

function entryType(mode: number): EntryType | undefined {
  switch (fileType(mode)) {
    case constants.S_IFREG:
      return "file";
    case constants.S_IFDIR:
      return "directory";
    case constants.S_IFLNK:
      return "symlink";
    case constants.S_IFCHR:
      return "char";
    case constants.S_IFBLK:
      return "block";
    case constants.S_IFIFO:
      return "fifo";
    default:
      return undefined;
  }
}
