/**
 * Filesystems in files: an image file, a loop device over it, a mount. The device is told to clear itself with its
 * last user, so that a process which is killed in a mount namespace of its own leaves nothing but the file.
 */
import { randomBytes } from "node:crypto";
import { mkdir, open, rm, rmdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { EngineError, systemCode } from "../base/errors.ts";
import { ioctl } from "./ioctl.ts";
import { mountAll, unmountAll } from "./mount.ts";
import { runProgram } from "./program.ts";
import { AT_FDCWD, closeFd, mknodat, O, openat2 } from "./sys.ts";

const LOOP_CTL_GET_FREE = 0x4c82;
const LOOP_CONFIGURE = 0x4c0a;
const LO_FLAGS_AUTOCLEAR = 4;
/** struct loop_config: fd, block size, struct loop_info64 with its flags at 52, reserved words. */
const configSize = 304;
const flagsAt = 8 + 52;

/** Devices are few: how long to wait for one. */
const patienceMs = 60_000;
const makeDeadline = 60_000;

export type LoopOptions = {
  readonly type: "ext4" | "xfs" | "btrfs";
  /** Bytes of the image, which is sparse. xfs wants at least 300 MiB, btrfs 110 MiB. */
  readonly size: number;
  /** Where the image file and the mount point are made. */
  readonly directory: string;
  /** Mount options. */
  readonly options?: readonly string[];
  readonly signal?: AbortSignal;
};

export type LoopFilesystem = AsyncDisposable & {
  /** Where it is mounted. */
  readonly path: string;
  /** `/dev/loopN` */
  readonly device: string;
};

const makers: Readonly<Record<LoopOptions["type"], readonly string[]>> = {
  ext4: ["-q", "-F"],
  xfs: ["-q", "-f"],
  btrfs: ["-q", "-f"],
};

/** Makes a filesystem of `size` bytes and mounts it. Dispose unmounts it and removes image and mount point. */
export async function makeLoopFilesystem(options: LoopOptions): Promise<LoopFilesystem> {
  const { type, size, directory, signal } = options;
  await using stack = new AsyncDisposableStack();
  const image = join(directory, `${type}-${randomBytes(4).toString("hex")}`);
  const path = `${image}.mount`;
  const file = await open(image, "wx+", 0o600);
  stack.defer(() => rm(image, { force: true }));
  try {
    await file.truncate(size);
    await makeFilesystem(type, image, signal);
    await mkdir(path);
    stack.defer(() => rmdir(path));
    const device = await takeDevice(file.fd, signal);
    try {
      mountAll([{ kind: "filesystem", type, source: device.path, options: options.options ?? [] }], path);
      stack.defer(() => release(path, device.path));
    } finally {
      // From now on the mount is the device's user.
      closeFd(device.fd);
    }
    const undo = stack.move();
    return { path, device: device.path, [Symbol.asyncDispose]: () => undo.disposeAsync() };
  } finally {
    await file.close();
  }
}

async function makeFilesystem(type: LoopOptions["type"], image: string, signal?: AbortSignal): Promise<void> {
  const { code, stderr } = await runProgram(`mkfs.${type}`, [...makers[type], image], {
    deadline: makeDeadline,
    env: { PATH: `${process.env.PATH ?? ""}:/usr/sbin:/sbin` },
    ...(signal === undefined ? {} : { signal }),
  });
  if (code !== 0) throw new EngineError("internal", `mkfs.${type} failed on ${image}: ${stderr.trim()}`);
}

type Device = { readonly path: string; readonly fd: number };

/** Others may take the device that was free a moment ago, or all of them. */
async function takeDevice(imageFd: number, signal?: AbortSignal): Promise<Device> {
  const end = performance.now() + patienceMs;
  for (;;) {
    signal?.throwIfAborted();
    try {
      return tryDevice(imageFd);
    } catch (error) {
      const busy = ["EBUSY", "ENOSPC", "ENODEV", "ENXIO", "EAGAIN"].includes(systemCode(error) ?? "");
      if (!busy) throw error;
      if (performance.now() > end)
        throw new EngineError("unavailable", "no loop device is free: see losetup -a", { cause: error });
    }
    await sleep(100, undefined, signal === undefined ? {} : { signal });
  }
}

function tryDevice(imageFd: number): Device {
  const control = openat2(AT_FDCWD, "/dev/loop-control", { flags: O.RDWR });
  let number: number;
  try {
    number = ioctl(control, LOOP_CTL_GET_FREE, 0);
  } finally {
    closeFd(control);
  }
  const path = `/dev/loop${number}`;
  const fd = openDevice(path, number);
  try {
    const config = Buffer.alloc(configSize);
    config.writeUInt32LE(imageFd, 0);
    config.writeUInt32LE(LO_FLAGS_AUTOCLEAR, flagsAt);
    ioctl(fd, LOOP_CONFIGURE, config);
    return { path, fd };
  } catch (error) {
    closeFd(fd);
    throw error;
  }
}

/** In a container, `/dev` has no node for a device that the kernel has just added. */
function openDevice(path: string, number: number): number {
  try {
    return openat2(AT_FDCWD, path, { flags: O.RDWR });
  } catch (error) {
    if (systemCode(error) !== "ENOENT") throw error;
    mknodat(AT_FDCWD, path, 0o060600, 7, number);
    return openat2(AT_FDCWD, path, { flags: O.RDWR });
  }
}

/** Unmounts, and waits until the device is free again, which it is unless somebody still uses the mount. */
async function release(path: string, device: string): Promise<void> {
  unmountAll(path);
  const backing = `/sys/block/${device.slice("/dev/".length)}/loop`;
  for (let tries = 0; tries < 50 && (await exists(backing)); tries++) await sleep(20);
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
