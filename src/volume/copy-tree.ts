/**
 * Copies a directory tree between two open directories, exactly: owners, modes, times, extended attributes, hard
 * links, devices, fifos, sockets and symlinks. Every path is resolved below one of the two descriptors and through no
 * symlink, so neither tree can lead the copy astray. Synchronous: for workers.
 */

import { systemCode } from "../base/errors.ts";
import { copyFileData } from "../host/copy.ts";
import {
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
  RESOLVE,
  readDirectory,
  readlinkat,
  setXattr,
  statat,
  symlinkat,
  utimensat,
} from "../host/sys.ts";

const kindMask = 0o170000;
const kinds = { directory: 0o040000, file: 0o100000, symlink: 0o120000 } as const;
const inside = RESOLVE.BENEATH | RESOLVE.NO_SYMLINKS | RESOLVE.NO_MAGICLINKS;
const slash = Buffer.from("/");

/** Where an entry is in both trees, relative to their roots. */
type Copying = {
  readonly source: number;
  readonly target: number;
  /** Inode of a file with several names -> the name under which it was copied first. */
  readonly links: Map<string, Buffer>;
  readonly signal: AbortSignal;
};

/** Copies what is in the directory `source` into the empty directory `target`, and the directory's own attributes. */
export function copyTree(source: number, target: number, signal: AbortSignal): void {
  const copying: Copying = { source, target, links: new Map(), signal };
  const directories: Buffer[] = [Buffer.from(".")];
  // The list grows while it is walked: no recursion, and at most two descriptors for any depth.
  for (const directory of directories) copyChildren(copying, directory, directories);
  for (const directory of directories.reverse())
    inBoth(copying, directory, (from, to) => copyAttributes([from, ""], [to, ""], statat(from, "")));
}

/** Names of one directory of both trees; subdirectories are made and left for later. */
function copyChildren(copying: Copying, directory: Buffer, later: Buffer[]): void {
  inBoth(copying, directory, (from, to) => {
    for (const name of readDirectory(from)) {
      copying.signal.throwIfAborted();
      const stat = statat(from, name);
      const path = Buffer.concat([directory, slash, name]);
      if ((stat.mode & kindMask) === kinds.directory) {
        mkdirat(to, name, 0o700);
        later.push(path);
      } else if (!linkAgain(copying, stat, [to, name])) {
        copyOne([from, name], [to, name], stat);
        if (stat.nlink > 1) copying.links.set(inodeOf(stat), path);
      }
    }
  });
}

type Place = readonly [directory: number, name: Buffer | string];

function copyOne(from: Place, to: Place, stat: FileStat): void {
  const kind = stat.mode & kindMask;
  if (kind === kinds.symlink) symlinkat(readlinkat(...from), ...to);
  else if (kind === kinds.file) copyFile(from, to, stat.size);
  else mknodat(...to, kind | 0o600, stat.rdevMajor, stat.rdevMinor);
  copyAttributes(from, to, stat);
}

function copyFile(from: Place, to: Place, size: number): void {
  const input = openat2(...from, { flags: O.RDONLY | O.NOFOLLOW | O.NONBLOCK, resolve: inside });
  try {
    const output = openat2(...to, { flags: O.WRONLY | O.CREAT | O.EXCL, mode: 0o600, resolve: inside });
    try {
      copyFileData(input, output, size);
    } finally {
      closeFd(output);
    }
  } finally {
    closeFd(input);
  }
}

/** Owner first (it clears setuid and capabilities), then xattrs and mode, the times last. An empty name is the descriptor itself. */
export function copyAttributes(from: Place, to: Place, stat: FileStat): void {
  fchownat(...to, stat.uid, stat.gid);
  for (const attribute of listXattrs(...from)) {
    const value = getXattr(...from, attribute);
    if (value !== undefined) setIfSupported(to, attribute, value);
  }
  fchmodat(...to, stat.mode & 0o7777);
  const time = BigInt(stat.mtimeSec) * 1_000_000_000n + BigInt(stat.mtimeNsec);
  utimensat(...to, time, time);
}

/** A filesystem without this kind of attribute cannot keep it: as in Docker, no reason to fail. */
function setIfSupported(to: Place, attribute: string, value: Buffer): void {
  try {
    setXattr(...to, attribute, value);
  } catch (error) {
    if (systemCode(error) !== "ENOTSUP" && systemCode(error) !== "EOPNOTSUPP") throw error;
  }
}

/** Makes another name for a file that was copied already. */
function linkAgain({ target, links }: Copying, stat: FileStat, to: Place): boolean {
  const first = stat.nlink > 1 ? links.get(inodeOf(stat)) : undefined;
  if (first === undefined) return false;
  const cut = first.lastIndexOf(slash);
  const directory = openDirectory(target, first.subarray(0, cut));
  try {
    linkat(directory, first.subarray(cut + 1), ...to);
  } finally {
    closeFd(directory);
  }
  return true;
}

function openDirectory(root: number, path: Buffer): number {
  return openat2(root, path, { flags: O.RDONLY | O.DIRECTORY | O.NOFOLLOW, resolve: inside });
}

/** The same directory of both trees, open while `work` runs. */
function inBoth(copying: Copying, directory: Buffer, work: (from: number, to: number) => void): void {
  const from = openDirectory(copying.source, directory);
  try {
    const to = openDirectory(copying.target, directory);
    try {
      work(from, to);
    } finally {
      closeFd(to);
    }
  } finally {
    closeFd(from);
  }
}

const inodeOf = (stat: FileStat): string => `${stat.dev}:${stat.ino}`;
