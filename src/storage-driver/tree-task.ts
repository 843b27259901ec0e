/**
 * Walks of whole trees for drivers, run in a pool worker: copying one exactly and deleting one. Both go by directory
 * descriptors and never follow a link; file names are bytes.
 *
 * An exact copy has the same types, contents, owners, modes, modification times, xattrs, device numbers and link
 * structure. The source must not change meanwhile (layers are fixed when they are copied).
 */
import { systemCode } from "../base/errors.ts";
import { copyFileData } from "../host/copy.ts";
import type { TaskContext } from "../host/pool.ts";
import { emptyDirectory } from "../host/remove-tree.ts";
import {
  AT_FDCWD,
  closeFd,
  type FileStat,
  fchmodat,
  fchownat,
  getXattr,
  linkat,
  listXattrs,
  mkdirat,
  mknodat,
  O,
  openat2,
  readDirectory,
  readlinkat,
  setXattr,
  statat,
  symlinkat,
  utimensat,
} from "../host/sys.ts";

const type = { mask: 0o170000, directory: 0o040000, file: 0o100000, symlink: 0o120000 } as const;
const openDirectory = { flags: O.RDONLY | O.DIRECTORY | O.NOFOLLOW };

type Copy = { readonly rootFd: number; readonly links: Map<string, Buffer>; readonly signal: AbortSignal };
type Place = { readonly from: number; readonly to: number; readonly path: Buffer };

/** Copies the directory `source` to `target`, which must not exist. On failure a part of it stays. */
export function copyTreeTask(
  argument: { readonly source: string; readonly target: string },
  { signal }: Pick<TaskContext, "signal">,
): void {
  const { source, target } = argument;
  mkdirat(AT_FDCWD, target, 0o700);
  const from = openat2(AT_FDCWD, source, openDirectory);
  const to = openat2(AT_FDCWD, target, openDirectory);
  try {
    const copy = { rootFd: to, links: new Map<string, Buffer>(), signal };
    copyEntries(copy, { from, to, path: Buffer.alloc(0) });
    copyAttributes({ from, to, name: "" }, statat(from, ""));
  } finally {
    closeFd(from);
    closeFd(to);
  }
}

function copyEntries(copy: Copy, place: Place): void {
  for (const name of readDirectory(place.from)) {
    copy.signal.throwIfAborted();
    const stat = statat(place.from, name);
    const path = place.path.length === 0 ? name : Buffer.concat([place.path, Buffer.from("/"), name]);
    if ((stat.mode & type.mask) === type.directory) copyDirectory(copy, { ...place, path }, name);
    else if (linkCopied(copy, { ...place, path }, { name, stat })) continue;
    else copyLeaf(place, name, stat);
    copyAttributes({ from: place.from, to: place.to, name }, stat);
  }
}

function copyDirectory(copy: Copy, place: Place, name: Buffer): void {
  mkdirat(place.to, name, 0o700);
  const from = openat2(place.from, name, openDirectory);
  try {
    const to = openat2(place.to, name, openDirectory);
    try {
      copyEntries(copy, { from, to, path: place.path });
    } finally {
      closeFd(to);
    }
  } finally {
    closeFd(from);
  }
}

/** True when the inode was copied before: the name is then a link to that copy. */
function linkCopied(copy: Copy, place: Place, entry: { name: Buffer; stat: FileStat }): boolean {
  if (entry.stat.nlink < 2) return false;
  const key = `${entry.stat.dev}:${entry.stat.ino}`;
  const first = copy.links.get(key);
  if (first === undefined) {
    copy.links.set(key, place.path);
    return false;
  }
  linkat(copy.rootFd, first, place.to, entry.name);
  return true;
}

function copyLeaf(place: Place, name: Buffer, stat: FileStat): void {
  const kind = stat.mode & type.mask;
  if (kind === type.file) copyFile(place, name, stat.size);
  else if (kind === type.symlink) symlinkat(readlinkat(place.from, name), place.to, name);
  else mknodat(place.to, name, kind | 0o600, stat.rdevMajor, stat.rdevMinor);
}

function copyFile(place: Place, name: Buffer, size: number): void {
  const from = openat2(place.from, name, { flags: O.RDONLY | O.NOFOLLOW });
  try {
    const to = openat2(place.to, name, { flags: O.RDWR | O.CREAT | O.EXCL | O.NOFOLLOW, mode: 0o600 });
    try {
      if (size > 0) copyFileData(from, to, size);
    } finally {
      closeFd(to);
    }
  } finally {
    closeFd(from);
  }
}

/** In the one order that keeps all: owner (clears setuid), xattrs (some need the owner), mode, times. */
function copyAttributes(entry: { from: number; to: number; name: string | Buffer }, stat: FileStat): void {
  const { from, to, name } = entry;
  fchownat(to, name, stat.uid, stat.gid);
  for (const attribute of listXattrs(from, name)) {
    const value = getXattr(from, name, attribute);
    if (value !== undefined) setXattr(to, name, attribute, value);
  }
  if ((stat.mode & type.mask) !== type.symlink) fchmodat(to, name, stat.mode & 0o7777);
  const time = BigInt(stat.mtimeSec) * 1_000_000_000n + BigInt(stat.mtimeNsec);
  utimensat(to, name, time, time);
}

/** Deletes everything in the directory `folder`, which stays; returns how many entries it had. Two at once is fine. */
export function emptyFolderTask(
  argument: { readonly folder: string },
  { signal }: Pick<TaskContext, "signal">,
): number {
  const fd = openat2(AT_FDCWD, argument.folder, openDirectory);
  try {
    const { length } = readDirectory(fd);
    for (;;) {
      try {
        emptyDirectory(fd, signal);
        return length;
      } catch (error) {
        // Another sweep was faster with that one.
        if (systemCode(error) !== "ENOENT") throw error;
      }
    }
  } finally {
    closeFd(fd);
  }
}
