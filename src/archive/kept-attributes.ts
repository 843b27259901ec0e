/**
 * Putting back what a union forgets. One that a program makes (fuse-overlayfs) copies a directory of a layer below before
 * something in it changes; the copy appears in its parent, whose time then changes though none of its names did, and it
 * loses the setuid and setgid bits. The kernel's attributes of a mount may be older than what the program did, so
 * nothing here depends on what they say afterwards.
 *
 * A file of a layer below that gets another name is copied up badly, too (a device becomes a file, a symlink root's), so it
 * is copied by us first.
 *
 * Words: a directory is *touched* when it, or anything below it, was changed; *changed* when its names were. Each is noted
 * before the first change below it, by its real path. For workers.
 */
import { copyEntry, type EntryAt } from "../host/copy-tree.ts";
import {
  closeRead,
  type FileStat,
  fchmodat,
  linkat,
  O,
  openat2,
  RESOLVE,
  statat,
  unlinkat,
  utimensat,
} from "../host/sys.ts";
import { type ByteString, nameOf } from "./bytes.ts";
import type { Location, RootTree } from "./root-tree.ts";

const permissions = 0o7777;

export class KeptAttributes {
  readonly #root: number;
  readonly #noted = new Map<ByteString, FileStat>();
  readonly #touched = new Set<ByteString>();
  readonly #changed = new Set<ByteString>();
  readonly #copied = new Set<ByteString>();

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

  /** The file at `path` is a copy of ours now; false when it was before. */
  copy(path: ByteString): boolean {
    if (this.#copied.has(path)) return false;
    this.#copied.add(path);
    return true;
  }

  /** What is there goes, or is made anew: what it was does not matter any more. */
  forget(path: ByteString): void {
    this.#copied.delete(path);
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

/** Makes `name` of a layer below, and the new name `to`, two names of an exact copy. */
export function linkByCopy(fd: number, name: ByteString, to: Location): void {
  const [from, target]: [EntryAt, EntryAt] = [
    [fd, nameOf(name)],
    [to.fd, nameOf(to.name)],
  ];
  copyEntry(from, target, { unsupportedXattrs: "fail" });
  unlinkat(...from);
  linkat(...target, ...from);
}

const timeOf = ({ mtimeSec, mtimeNsec }: FileStat): bigint => BigInt(mtimeSec) * 1_000_000_000n + BigInt(mtimeNsec);

/** `a/b/c`, `a/b`, `a` and the root. */
function* upwards(path: ByteString): Generator<ByteString, void, undefined> {
  for (let at = path; at !== ""; at = at.slice(0, Math.max(at.lastIndexOf("/"), 0))) yield at;
  yield "";
}
