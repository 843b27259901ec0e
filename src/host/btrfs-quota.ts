/**
 * Limits of subvolumes, kept by btrfs in quota groups (linux/btrfs.h): each subvolume has one, `0/<its number>`, and its
 * limit counts everything that the subvolume refers to, shared with others or not. Quotas are a matter of the whole
 * filesystem: they are switched on when first needed and never off, because others may have come to rely on them.
 * Synchronous: call it in a worker.
 */
import { systemCode } from "../base/errors.ts";
import { ioctl } from "./ioctl.ts";

/** _IOWR(0x94, 40, 16), _IOW(.., 42, 16), _IOR(.., 43, 48), _IO(.., 46). */
const request = { quotaControl: 0xc0109428, groupCreate: 0x4010942a, groupLimit: 0x8030942b, rescanWait: 0x942e };
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

/**
 * Removes the quota group of a destroyed subvolume. Newer kernels do that by themselves once they have freed its blocks
 * and say EBUSY until then.
 */
export function removeGroup(fd: number, subvolume: bigint): void {
  const argument = Buffer.alloc(16);
  argument.writeBigUInt64LE(subvolume, 8);
  try {
    ioctl(fd, request.groupCreate, argument);
  } catch (error) {
    // No quotas, no such group, or not yet: none of these leaves a group behind.
    if (!["ENOTCONN", "ENOENT", "EBUSY", "EINVAL"].includes(systemCode(error) ?? "")) throw error;
  }
}
