/**
 * Filesystems in files: an image file, a loop device over it, a mount. The device is told to clear itself with its
 * last user, so that a process which is killed in a mount namespace of its own leaves nothing but the file.
 */
import { randomBytes } from "node:crypto";
import { mkdir, open, rm, rmdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { EngineError } from "../base/errors.ts";
import { isTaken, type LoopDevice, takeLoop } from "./loop-device.ts";
import { mountAll, unmountAll } from "./mount.ts";
import { runProgram } from "./program.ts";

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
    // From the mount on, the mount is the device's user.
    using device = await takeDevice(file.fd, signal);
    mountAll([{ kind: "filesystem", type, source: device.path, options: options.options ?? [] }], path);
    stack.defer(() => release(path, device.path));
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

/** Others may take the device that was free a moment ago, or all of them. */
async function takeDevice(imageFd: number, signal?: AbortSignal): Promise<LoopDevice> {
  const end = performance.now() + patienceMs;
  for (;;) {
    signal?.throwIfAborted();
    try {
      return takeLoop(imageFd);
    } catch (error) {
      if (!isTaken(error)) throw error;
      if (performance.now() > end)
        throw new EngineError("unavailable", "no loop device is free: see losetup -a", { cause: error });
    }
    await sleep(100, undefined, signal === undefined ? {} : { signal });
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
