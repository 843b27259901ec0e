/**
 * What is done to btrfs's subvolumes in a pool worker: making, fixing, limiting and deleting them. A container may have made
 * subvolumes of its own inside what it was given (any owner of a directory can); they are found and deleted with it.
 */
import { basename, dirname } from "node:path";
import { systemCode } from "../base/errors.ts";
import {
  createSnapshot,
  createSubvolume,
  destroySubvolume,
  holdsSubvolumes,
  setReadOnly,
  subvolumeId,
  subvolumeInode,
} from "./btrfs.ts";
import { enableQuota, limitSubvolume, removeGroup } from "./btrfs-quota.ts";
import { AT_FDCWD, closeFd, fchmodat, O, openat2, readDirectory, statat } from "./sys.ts";

const directory = { flags: O.RDONLY | O.DIRECTORY | O.NOFOLLOW };

/** Makes the subvolume `path`: a snapshot of the subvolume `source`, or an empty one (0755). */
export function makeSubvolumeTask({ path, source }: { readonly path: string; readonly source?: string }): void {
  const name = Buffer.from(path.slice(dirname(path).length + 1));
  using parent = opened(dirname(path));
  if (source === undefined) {
    createSubvolume(parent.fd, name);
    fchmodat(parent.fd, name, 0o755);
    return;
  }
  using from = opened(source);
  createSnapshot(from.fd, parent.fd, name);
}

export function holdsSubvolumesTask({ path }: { readonly path: string }): boolean {
  using subvolume = opened(path);
  return holdsSubvolumes(subvolume.fd);
}

export function setReadOnlyTask({ path, readOnly }: { readonly path: string; readonly readOnly: boolean }): void {
  setReadOnly(path, readOnly);
}

/** Lets the subvolume `path` take no more than so many bytes; switches quotas on where they are off. */
export function limitTask({ path, bytes }: { readonly path: string; readonly bytes: number }): void {
  using subvolume = opened(path);
  try {
    limitSubvolume(subvolume.fd, bytes);
  } catch (error) {
    if (systemCode(error) !== "ENOTCONN") throw error;
    enableQuota(subvolume.fd);
    limitSubvolume(subvolume.fd, bytes);
  }
}

/** Takes the limit away; without quotas there is none. */
export function unlimitTask({ path }: { readonly path: string }): void {
  using subvolume = opened(path);
  try {
    limitSubvolume(subvolume.fd, undefined);
  } catch (error) {
    if (systemCode(error) !== "ENOTCONN") throw error;
  }
}

export function enableQuotaTask({ path }: { readonly path: string }): void {
  using folder = opened(path);
  enableQuota(folder.fd);
}

/**
 * Deletes the subvolumes below the directory `path`, which is on btrfs: all of them, or without those in directories
 * that are named in `closed`.
 */
export function destroySubvolumesIn(path: string, closed: readonly string[] = []): void {
  using parent = opened(dirname(path));
  destroyBelow(parent.fd, Buffer.from(basename(path)), closed);
}

/** Deletes every subvolume in `folder`; returns how many there were. */
export function emptyTrashTask({ folder }: { readonly folder: string }): number {
  using top = opened(folder);
  const names = readDirectory(top.fd);
  for (const name of names) destroyWithNested(top.fd, name);
  return names.length;
}

function destroyWithNested(parentFd: number, name: Uint8Array): void {
  try {
    destroyWithGroup(parentFd, name);
  } catch (error) {
    if (systemCode(error) === "ENOENT") return;
    if (systemCode(error) !== "ENOTEMPTY") throw error;
    destroyBelow(parentFd, name);
    destroyWithGroup(parentFd, name);
  }
}

function destroyWithGroup(parentFd: number, name: Uint8Array): void {
  const id = idOf(parentFd, name);
  destroySubvolume(parentFd, name);
  removeGroup(parentFd, id);
}

function idOf(parentFd: number, name: Uint8Array): bigint {
  const fd = openat2(parentFd, Buffer.from(name), directory);
  try {
    return subvolumeId(fd);
  } finally {
    closeFd(fd);
  }
}

/** Destroys every subvolume below the directory `name`. */
function destroyBelow(parentFd: number, name: Uint8Array, closed: readonly string[] = []): void {
  const fd = openat2(parentFd, name, directory);
  try {
    for (const child of readDirectory(fd)) {
      const { mode, ino } = statat(fd, child);
      if ((mode & 0o170000) !== 0o040000) continue;
      if (ino === subvolumeInode) destroyWithNested(fd, child);
      else if (!closed.includes(child.toString("latin1"))) destroyBelow(fd, child, closed);
    }
  } finally {
    closeFd(fd);
  }
}

function opened(path: string): Disposable & { readonly fd: number } {
  const fd = openat2(AT_FDCWD, path, directory);
  return { fd, [Symbol.dispose]: () => closeFd(fd) };
}
