/**
 * Limits of subvolumes, kept by btrfs in quota groups (linux/btrfs.h): each subvolume has one, `0/<its number>`, and its
 * limit counts everything that the subvolume refers to, shared with others or not. Quotas are a matter of the whole
 * filesystem: they are switched on when first needed and never off, because others may have come to rely on them.
 * Synchronous: call it in a worker.
 */
import { readFileSync } from "node:fs";
import { systemCode } from "../base/errors.ts";
import { ioctl } from "./ioctl.ts";

/** _IO(0x94, 8), _IOR(.., 31, 1024), _IOWR(.., 40, 16), _IOW(.., 42, 16), _IOR(.., 43, 48), _IOW(.., 44, 64), _IO(.., 46). */
const request = {
  sync: 0x9408,
  filesystem: 0x8400941f,
  quotaControl: 0xc0109428,
  groupCreate: 0x4010942a,
  groupLimit: 0x8030942b,
  rescan: 0x4040942c,
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

/**
 * Lets the kernel count again, on the filesystem of `fd`, when it has lost count: until it has, no limit holds. That takes
 * its time and is not waited for. An administrator's changes of groups do that, and so does the removal of a group in use.
 */
export function countAgain(fd: number): void {
  const info = Buffer.alloc(1024);
  ioctl(fd, request.filesystem, info);
  if (!lostCount(info.toString("hex", 16, 32))) return;
  try {
    ioctl(fd, request.rescan, Buffer.alloc(64));
  } catch (error) {
    // Somebody was faster, or has switched quotas off.
    if (!["EINPROGRESS", "EINVAL", "ENOTCONN"].includes(systemCode(error) ?? "")) throw error;
  }
}

function lostCount(id: string): boolean {
  const uuid = id.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
  try {
    return readFileSync(`/sys/fs/btrfs/${uuid}/qgroups/inconsistent`, "utf8").trim() === "1";
  } catch {
    // Quotas are off, or the kernel (before 5.9) does not tell.
    return false;
  }
}

/**
 * True of kernels (6.11) that remove the group of a subvolume themselves, when its last block is free. Whoever asks for it in the
 * moment before makes them lose count.
 */
export function removesGroups(kernel: string): boolean {
  const [major = 0, minor = 0] = kernel.split(".").map(Number);
  return major > 6 || (major === 6 && minor >= 11);
}

/** Milliseconds that {@link removeGroups} waits for the kernel to free what was destroyed. */
const patience = 2000;
const pause = 50;

/**
 * Removes the quota groups of subvolumes that were destroyed, on the filesystem of `fd`; returns those that stay for now.
 * A kernel that still frees a subvolume's blocks refuses (EBUSY): it is asked to commit, and again for a while; then the group
 * stays for ever unless it is asked for later. Not for what a kernel of {@link removesGroups} has just destroyed.
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
