/**
 * Btrfs's requests on a descriptor (linux/btrfs.h): subvolumes are made, snapshotted, fixed and destroyed by name below
 * an open directory. Synchronous, and slow where btrfs commits a transaction: call them in a worker.
 */
import { systemCode } from "../base/errors.ts";
import { ioctl } from "./ioctl.ts";
import { AT_FDCWD, closeFd, O, openat2 } from "./sys.ts";

/** _IOW(0x94, n, 4096 bytes) and friends. */
const request = {
  subvolumeCreate: 0x5000940e,
  snapshotDestroy: 0x5000940f,
  snapshotCreateV2: 0x50009417,
  getFlags: 0x80089419,
  setFlags: 0x4008941a,
  inodeLookup: 0xd0009412,
  subvolumeRootReferences: 0xd000943d,
} as const;

const argumentSize = 4096;
/** Where `name` stands in btrfs_ioctl_vol_args and btrfs_ioctl_vol_args_v2. */
const nameOffset = { v1: 8, v2: 56 } as const;
const readOnlyFlag = 2n;

/** Inode number of every subvolume's root directory. */
export const subvolumeInode = 256n;

export function createSubvolume(directoryFd: number, name: Uint8Array): void {
  ioctl(directoryFd, request.subvolumeCreate, nameArgument(name, nameOffset.v1));
}

/** Makes `name` in the directory a writable snapshot of the subvolume that `sourceFd` is the root of. */
export function createSnapshot(sourceFd: number, directoryFd: number, name: Uint8Array): void {
  const argument = nameArgument(name, nameOffset.v2);
  argument.writeBigInt64LE(BigInt(sourceFd), 0);
  ioctl(directoryFd, request.snapshotCreateV2, argument);
}

/** Fails with ENOTEMPTY where another subvolume stands in it. */
export function destroySubvolume(directoryFd: number, name: Uint8Array): void {
  ioctl(directoryFd, request.snapshotDestroy, nameArgument(name, nameOffset.v1));
}

/** Fixes the subvolume, or frees it again (a fixed one cannot be renamed to another directory). */
export function setReadOnly(path: string, readOnly: boolean): void {
  const fd = openat2(AT_FDCWD, path, { flags: O.RDONLY | O.DIRECTORY | O.NOFOLLOW });
  try {
    const flags = Buffer.alloc(8);
    ioctl(fd, request.getFlags, flags);
    const old = flags.readBigUInt64LE(0);
    const wanted = readOnly ? old | readOnlyFlag : old & ~readOnlyFlag;
    if (wanted === old) return;
    flags.writeBigUInt64LE(wanted, 0);
    ioctl(fd, request.setFlags, flags);
  } finally {
    closeFd(fd);
  }
}

/** The number of the subvolume that `fd` is in. */
export function subvolumeId(fd: number): bigint {
  const argument = Buffer.alloc(argumentSize);
  argument.writeBigUInt64LE(subvolumeInode, 8);
  ioctl(fd, request.inodeLookup, argument);
  return argument.readBigUInt64LE(0);
}

/** Whether another subvolume stands somewhere in the one that `fd` is the root of; true where the kernel cannot tell. */
export function holdsSubvolumes(fd: number): boolean {
  const argument = Buffer.alloc(argumentSize);
  try {
    ioctl(fd, request.subvolumeRootReferences, argument);
  } catch (error) {
    // More than one answer holds; a kernel before 4.18.
    if (systemCode(error) !== "EOVERFLOW" && systemCode(error) !== "ENOTTY") throw error;
    return true;
  }
  // struct btrfs_ioctl_get_subvol_rootref_args: min_treeid, 255 pairs of numbers, num_items.
  return argument.readUInt8(8 + 255 * 16) > 0;
}

function nameArgument(name: Uint8Array, offset: number): Buffer {
  const argument = Buffer.alloc(argumentSize);
  argument.set(name, offset);
  return argument;
}
