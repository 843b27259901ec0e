/**
 * How much a directory tree holds: bytes of everything but directories (st_size, as Docker counts), each inode once.
 * Meant for the upper directory of a running container: what vanishes while it is walked is not counted. Synchronous:
 * for workers.
 */
import { systemCode } from "../base/errors.ts";
import { AT_FDCWD, closeRead, type FileStat, O, openat2, readDirectory, statat } from "../host/sys.ts";
import { bytesOf } from "./bytes.ts";
import { isDirectory, openDirectory } from "./root-tree.ts";

export type TreeSize = {
  readonly bytes: number;
  readonly inodes: number;
  /** Bytes of the blocks that all of it takes, directories too. */
  readonly allocated: number;
};

type Walk = {
  bytes: number;
  inodes: number;
  allocated: number;
  readonly linked: Set<string>;
  readonly sizeOf: SizeOf;
};

type SizeOf = (name: Buffer, stat: FileStat) => number;

/** `path` is a host path of our own choice; `sizeOf` says what one that is no directory counts. */
export function treeSize(path: string, sizeOf: SizeOf = (_, stat) => stat.size): TreeSize {
  const walk: Walk = { bytes: 0, inodes: 1, allocated: 0, linked: new Set(), sizeOf };
  const top = openat2(AT_FDCWD, path, { flags: O.RDONLY | O.DIRECTORY });
  const open = [top];
  try {
    walk.allocated = statat(top, "").blocks * 512;
    const todo = [readDirectory(top)];
    for (;;) {
      const fd = open.at(-1);
      const name = todo.at(-1)?.pop();
      if (fd === undefined) break;
      if (name === undefined) {
        todo.pop();
        closeRead(open.pop() ?? -1);
      } else {
        const names = enter(fd, name);
        if (names !== undefined) todo.push(names);
      }
    }
  } finally {
    for (const fd of open) closeRead(fd);
  }
  return { bytes: walk.bytes, inodes: walk.inodes, allocated: walk.allocated };

  /** The names in a directory that is now open. */
  function enter(fd: number, name: Buffer): Buffer[] | undefined {
    try {
      if (!count(fd, name, walk)) return undefined;
      const directory = openDirectory(fd, bytesOf(name));
      open.push(directory);
      return readDirectory(directory);
    } catch (error) {
      const code = systemCode(error);
      if (code !== "ENOENT" && code !== "ENOTDIR" && code !== "ELOOP") throw error;
      return undefined;
    }
  }
}

/** Counts one name; true for a directory, to be walked. */
function count(fd: number, name: Buffer, walk: Walk): boolean {
  const stat = statat(fd, name);
  const directory = isDirectory(stat.mode);
  if (!directory && stat.nlink > 1) {
    const inode = `${stat.dev}:${stat.ino}`;
    if (walk.linked.has(inode)) return false;
    walk.linked.add(inode);
  }
  walk.inodes++;
  walk.allocated += stat.blocks * 512;
  if (!directory) walk.bytes += walk.sizeOf(name, stat);
  return directory;
}
