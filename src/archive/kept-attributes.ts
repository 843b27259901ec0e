/**
 * Putting back what a union forgets. One that a program makes (fuse-overlayfs) copies a directory of a layer below before
 * something in it changes; the copy appears in its parent, whose time then changes though none of its names did, and it
 * loses the setuid and setgid bits. The kernel's attributes of a mount may be older than what the program did, so
 * nothing here depends on what they say afterwards.
 *
 * Words: a directory is *touched* when it, or anything below it, was changed; *changed* when its names were. Each is noted
 * before the first change below it, by its real path. For workers.
 */
import { closeRead, type FileStat, fchmodat, fchownat, O, openat2, RESOLVE, statat, utimensat } from "../host/sys.ts";
import { type ByteString, nameOf } from "./bytes.ts";
import { findStat, type RootTree } from "./root-tree.ts";

const permissions = 0o7777;

export class KeptAttributes {
  readonly #root: number;
  readonly #noted = new Map<ByteString, FileStat>();
  readonly #touched = new Set<ByteString>();
  readonly #changed = new Set<ByteString>();

  /** `root` is the tree's open root directory. */
  constructor(root: number) {
    this.#root = root;
  }

  /** Before anything changes in the directory at `path`, or in one above it that was not noted yet. */
  note(path: ByteString): void {
    for (const directory of upwards(path)) {
      if (this.#noted.has(directory)) return;
      const fd = openat2(this.#root, directory === "" ? "." : nameOf(directory), {
        flags: O.PATH | O.DIRECTORY,
        resolve: RESOLVE.BENEATH | RESOLVE.NO_SYMLINKS,
      });
      try {
        this.#noted.set(directory, statat(fd, ""));
      } finally {
        closeRead(fd);
      }
    }
  }

  /** Something in the directory was changed in place. */
  touch(path: ByteString): void {
    for (const directory of upwards(path)) {
      if (this.#touched.has(directory)) return;
      this.#touched.add(directory);
    }
  }

  /** A name came into the directory, or left it. */
  change(path: ByteString): void {
    this.touch(path);
    this.#changed.add(path);
  }

  /** The directory goes, or is made anew: what it was does not matter any more. */
  forget(path: ByteString): void {
    this.#noted.delete(path);
    this.#touched.delete(path);
    this.#changed.delete(path);
  }

  /** `isDescribed` tells directories whose mode the layer set. */
  restore(tree: RootTree, isDescribed: (path: ByteString) => boolean): void {
    for (const path of this.#touched) {
      const before = this.#noted.get(path);
      const directory = before === undefined ? undefined : tree.find(path);
      if (before === undefined || directory === undefined) continue;
      if ((before.mode & 0o6000) !== 0 && !isDescribed(path)) fchmodat(directory.fd, "", before.mode & permissions);
      if (!this.#changed.has(path)) utimensat(directory.fd, "", undefined, timeOf(before));
    }
  }
}

/** Gives what `name` names the owner, mode and time that it had before a copy. */
export function restoreAttributes(fd: number, name: ByteString, before: FileStat): void {
  const at = nameOf(name);
  const now = findStat(fd, name);
  // A change of owner would drop capabilities of a file that needs none.
  if (now?.uid !== before.uid || now.gid !== before.gid) fchownat(fd, at, before.uid, before.gid);
  fchmodat(fd, at, before.mode & permissions);
  utimensat(fd, at, undefined, timeOf(before));
}

const timeOf = ({ mtimeSec, mtimeNsec }: FileStat): bigint => BigInt(mtimeSec) * 1_000_000_000n + BigInt(mtimeNsec);

/** `a/b/c`, `a/b`, `a` and the root. */
function* upwards(path: ByteString): Generator<ByteString, void, undefined> {
  for (let at = path; at !== ""; at = at.slice(0, Math.max(at.lastIndexOf("/"), 0))) yield at;
  yield "";
}
