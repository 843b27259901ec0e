/**
 * Limits of subvolumes, kept by btrfs in quota groups (linux/btrfs.h): each subvolume has one, `0/<its number>`, and its
 * limit counts everything that the subvolume refers to, shared with others or not. Quotas are a matter of the whole
 * filesystem: they are switched on when first needed and never off, because others may have come to rely on them.
 * Synchronous: call it in a worker.
 */
import { systemCode } from "../base/errors.ts";
import { ioctl } from "./ioctl.ts";

/** _IO(0x94, 8), _IOWR(.., 40, 16), _IOW(.., 42, 16), _IOR(.., 43, 48), _IO(.., 46). */
const request = {
  sync: 0x9408,
  quotaControl: 0xc0109428,
  groupCreate: 0x4010942a,
  groupLimit: 0x8030942b,
  rescanWait: 0x942e,
};
const controlEnable = 1n;
const limitReferenced = 1n;

/** Switches quotas on and waits until what is there already has been counted; on already: only the wait for a count under way. */
export function enableQuota(fd: number): void {
  const argument = Buffer.alloc(16);
  argument.writeBigUInt64LE(controlEnable, 0);
  ioctl(fd, request.quotaControl, argument);
  ioctl(fd, request.rescanWait, 0);
}

const noLimit = 2n ** 64n - 1n;

/** Limits the subvolume that `fd` is in, in bytes; undefined takes the limit away. ENOTCONN where quotas are off. */
export function limitSubvolume(fd: number, bytes: number | undefined): void {
  const argument = Buffer.alloc(48);
  // The group 0 means that of the descriptor's subvolume.
  argument.writeBigUInt64LE(limitReferenced, 8);
  argument.writeBigUInt64LE(bytes === undefined ? noLimit : BigInt(bytes), 16);
  ioctl(fd, request.groupLimit, argument);
}

/** Milliseconds that {@link removeGroups} waits for the kernel to free what was destroyed. */
const patience = 2000;
const pause = 50;

/**
 * Removes the quota groups of subvolumes that were destroyed, on the filesystem of `fd`; returns those that stay for now.
 * A kernel that still frees a subvolume's blocks refuses (EBUSY): it is asked to commit, and again for a while. Newer ones
 * (6.10) remove the group themselves then; on others it stays for ever unless it is asked for later.
 */
export function removeGroups(fd: number, subvolumes: readonly bigint[]): readonly bigint[] {
  const until = performance.now() + patience;
  const sleeper = new Int32Array(new SharedArrayBuffer(4));
  let left = subvolumes.filter((subvolume) => !removeGroup(fd, subvolume));
  for (let round = 0; left.length > 0 && performance.now() < until; round++) {
    if (round % 10 === 0) ioctl(fd, request.sync, 0);
    Atomics.wait(sleeper, 0, 0, pause);
    left = left.filter((subvolume) => !removeGroup(fd, subvolume));
  }
  return left;
}

/** False while the subvolume's blocks are being freed. */
function removeGroup(fd: number, subvolume: bigint): boolean {
  const argument = Buffer.alloc(16);
  argument.writeBigUInt64LE(subvolume, 8);
  try {
    ioctl(fd, request.groupCreate, argument);
    return true;
  } catch (error) {
    const code = systemCode(error) ?? "";
    // No quotas, or no such group.
    if (["ENOTCONN", "ENOENT", "EINVAL"].includes(code)) return true;
    if (code === "EBUSY") return false;
    throw error;
  }
}
