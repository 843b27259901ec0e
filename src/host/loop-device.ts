/**
 * Loop devices: a file as a block device. A device is always told to clear itself with its last user (a mount, a
 * descriptor), so that a process which is killed leaves none behind. A file never gets two devices, which would be two
 * caches of the same blocks: one that stands over it already is found by the file's inode, in whatever mount namespace
 * it was made.
 */
import { readdirSync, readFileSync } from "node:fs";
import { EngineError, systemCode } from "../base/errors.ts";
import { ioctl } from "./ioctl.ts";
import { AT_FDCWD, closeRead, mknodat, O, openat2, statat } from "./sys.ts";

const LOOP_CTL_GET_FREE = 0x4c82;
const LOOP_CONFIGURE = 0x4c0a;
const LOOP_GET_STATUS64 = 0x4c05;
const LO_FLAGS_AUTOCLEAR = 4;
/** No second copy of the data in the page cache; the kernel leaves it where the filesystem below cannot. */
const LO_FLAGS_DIRECT_IO = 16;
/** struct loop_config: fd, block size, struct loop_info64 with its flags at 52, reserved words. */
const configSize = 304;
const infoAt = 8;
const flagsAt = infoAt + 52;
const infoSize = 232;

/** What a device is while it is being taken by somebody else, or where none is left. */
const taken = new Set(["EBUSY", "ENOSPC", "ENODEV", "ENXIO", "EAGAIN", "ENOMEM"]);
const attempts = 20;

/** Closing the descriptor frees the device, unless it is mounted. */
export type LoopDevice = Disposable & {
  /** `/dev/loopN` */
  readonly path: string;
  readonly fd: number;
};

export type LoopConfig = {
  /** Reads and writes go to the file's disk without a copy in memory, where that is possible. */
  readonly direct?: boolean;
  /** Bytes of a block; a filesystem in the file must not use smaller ones. 512 unless told. */
  readonly blockSize?: number;
};

/** The device over the open file `fileFd`: the one that stands, else a new one. Throws unavailable where none is left. */
export function attachLoop(fileFd: number, config: LoopConfig = {}): LoopDevice {
  const found = findLoop(fileFd);
  if (found !== undefined) return found;
  for (let attempt = 1; ; attempt++) {
    try {
      return takeLoop(fileFd, config);
    } catch (error) {
      if (!isTaken(error)) throw error;
      if (attempt === attempts)
        throw new EngineError("unavailable", "no loop device is free: see losetup -a", { cause: error });
    }
  }
}

/** True for an error of {@link takeLoop} that another try may not meet. */
export const isTaken = (error: unknown): boolean => taken.has(systemCode(error) ?? "");

/** Takes a free device, once: others may be faster. */
export function takeLoop(fileFd: number, { direct = false, blockSize = 0 }: LoopConfig = {}): LoopDevice {
  const control = openat2(AT_FDCWD, "/dev/loop-control", { flags: O.RDWR });
  let number: number;
  try {
    number = ioctl(control, LOOP_CTL_GET_FREE, 0);
  } finally {
    closeRead(control);
  }
  const device = openDevice(number, O.RDWR);
  try {
    const settings = Buffer.alloc(configSize);
    settings.writeUInt32LE(fileFd, 0);
    settings.writeUInt32LE(blockSize, 4);
    settings.writeUInt32LE(LO_FLAGS_AUTOCLEAR | (direct ? LO_FLAGS_DIRECT_IO : 0), flagsAt);
    ioctl(device.fd, LOOP_CONFIGURE, settings);
    return device;
  } catch (error) {
    device[Symbol.dispose]();
    throw error;
  }
}

/** The device that stands over the open file `fileFd`; it stays as long as the result is not disposed. */
export function findLoop(fileFd: number): LoopDevice | undefined {
  const { dev, ino } = statat(fileFd, "");
  for (const number of boundDevices()) {
    const device = openDevice(number, O.RDONLY);
    if (standsOver(device, dev, ino)) return device;
    device[Symbol.dispose]();
  }
  return undefined;
}

/** Numbers of the devices that have a file. */
function boundDevices(): number[] {
  const bound: number[] = [];
  for (const name of readdirSync("/sys/block")) {
    const number = /^loop(\d+)$/.exec(name)?.[1];
    if (number !== undefined && backingFile(Number(number)) !== undefined) bound.push(Number(number));
  }
  return bound;
}

/** The file below the device `number` as the kernel names it; undefined where it is free. */
export function backingFile(number: number): string | undefined {
  try {
    return readFileSync(`/sys/block/loop${number}/loop/backing_file`, "utf8").trimEnd();
  } catch {
    return undefined;
  }
}

function standsOver({ fd }: LoopDevice, dev: bigint, ino: bigint): boolean {
  const info = Buffer.alloc(infoSize);
  try {
    ioctl(fd, LOOP_GET_STATUS64, info);
  } catch (error) {
    if (systemCode(error) === "ENXIO") return false;
    throw error;
  }
  return info.readBigUInt64LE(0) === dev && info.readBigUInt64LE(8) === ino;
}

/** In a container, `/dev` has no node for a device that the kernel has just added. */
function openDevice(number: number, flags: number): LoopDevice {
  const path = `/dev/loop${number}`;
  let fd: number;
  try {
    fd = openat2(AT_FDCWD, path, { flags });
  } catch (error) {
    if (systemCode(error) !== "ENOENT") throw error;
    mknodat(AT_FDCWD, path, 0o060600, 7, number);
    fd = openat2(AT_FDCWD, path, { flags });
  }
  return { path, fd, [Symbol.dispose]: () => closeRead(fd) };
}
