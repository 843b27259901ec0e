/**
 * What is done to btrfs's subvolumes in a pool worker: making, fixing, limiting and deleting them. A container may have made
 * subvolumes of its own inside what it was given (any owner of a directory can); they are found and deleted with it.
 */
import { writeFileSync } from "node:fs";
import { release } from "node:os";
import { basename, dirname, join } from "node:path";
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
import { countAgain, enableQuota, limitSubvolume, removeGroups, removesGroups } from "./btrfs-quota.ts";
import { removeTreeAt } from "./remove-tree.ts";
import { AT_FDCWD, closeFd, fchmodat, O, openat2, readDirectory, statat, unlinkat } from "./sys.ts";

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
  countAgain(subvolume.fd);
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
  removeGroups(parent.fd, leftBehind(destroyBelow(parent.fd, Buffer.from(basename(path)), closed)));
}

/** Those of the destroyed subvolumes whose quota groups this kernel leaves behind. */
const leftBehind = (destroyed: readonly bigint[]): readonly bigint[] => (removesGroups(release()) ? [] : destroyed);

/** Name of a note in the trash: the quota group of a destroyed subvolume is still to be removed. */
const groupNote = /^group-([0-9]+)$/;

/**
 * Deletes every subvolume in `folder`, and what else is there (the folder of a trial); returns how many entries there were.
 * One that cannot be deleted keeps none of the others; the first failure is thrown at the end.
 */
export function emptyTrashTask({ folder }: { readonly folder: string }): number {
  using top = opened(folder);
  const names = readDirectory(top.fd).map((name) => name.toString("latin1"));
  const noted = names.flatMap((name) => groupNote.exec(name)?.[1] ?? []).map(BigInt);
  const trees = names.filter((name) => !groupNote.test(name));
  const destroyed: bigint[] = [];
  const failures: unknown[] = [];
  for (const name of trees)
    try {
      destroyed.push(...deleteEntry(top.fd, Buffer.from(name, "latin1")));
    } catch (error) {
      // Another sweep was faster with that one.
      if (systemCode(error) !== "ENOENT") failures.push(error);
    }
  const left = new Set(removeGroups(top.fd, [...noted, ...leftBehind(destroyed)]));
  for (const group of noted) if (!left.delete(group)) unlinkat(top.fd, `group-${group}`);
  for (const group of left) writeFileSync(join(folder, `group-${group}`), "");
  if (failures.length > 0) throw failures[0];
  return trees.length;
}

/** Deletes a subvolume, or anything else with the subvolumes in it; returns the numbers of those that went. */
function deleteEntry(parentFd: number, name: Uint8Array): readonly bigint[] {
  const { mode, ino } = statat(parentFd, name);
  const isDirectory = (mode & 0o170000) === 0o040000;
  if (isDirectory && ino === subvolumeInode) return destroyWithNested(parentFd, name);
  const destroyed = isDirectory ? destroyBelow(parentFd, name) : [];
  removeTreeAt(parentFd, Buffer.from(name));
  return destroyed;
}

/** Returns the numbers of the subvolumes that went. */
function destroyWithNested(parentFd: number, name: Uint8Array): readonly bigint[] {
  try {
    return [destroy(parentFd, name)];
  } catch (error) {
    if (systemCode(error) === "ENOENT") return [];
    if (systemCode(error) !== "ENOTEMPTY") throw error;
    return [...destroyBelow(parentFd, name), destroy(parentFd, name)];
  }
}

function destroy(parentFd: number, name: Uint8Array): bigint {
  const id = idOf(parentFd, name);
  destroySubvolume(parentFd, name);
  return id;
}

function idOf(parentFd: number, name: Uint8Array): bigint {
  const fd = openat2(parentFd, Buffer.from(name), directory);
  try {
    return subvolumeId(fd);
  } finally {
    closeFd(fd);
  }
}

/** Destroys every subvolume below the directory `name`; returns their numbers. */
function destroyBelow(parentFd: number, name: Uint8Array, closed: readonly string[] = []): readonly bigint[] {
  const fd = openat2(parentFd, name, directory);
  const destroyed: bigint[] = [];
  try {
    for (const child of readDirectory(fd)) {
      const { mode, ino } = statat(fd, child);
      if ((mode & 0o170000) !== 0o040000) continue;
      if (ino === subvolumeInode) destroyed.push(...destroyWithNested(fd, child));
      else if (!closed.includes(child.toString("latin1"))) destroyed.push(...destroyBelow(fd, child, closed));
    }
    return destroyed;
  } finally {
    closeFd(fd);
  }
}

function opened(path: string): Disposable & { readonly fd: number } {
  const fd = openat2(AT_FDCWD, path, directory);
  return { fd, [Symbol.dispose]: () => closeFd(fd) };
}
