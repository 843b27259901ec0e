/**
 * Filesystems in files, mounted where a step says, or held out of sight by a descriptor alone. The loop device below is
 * that of the file, found or made, and goes with its last mount; nothing is left by a process that is killed.
 */
import { EngineError, systemCode } from "../base/errors.ts";
import type { MountStep } from "../base/mount.ts";
import { attachLoop, type LoopDevice } from "./loop-device.ts";
import { FilesystemContext, type MountCall, MS, mount, mountAsync, orDetach } from "./mount-calls.ts";
import { parseMountOptions } from "./mount-options.ts";
import { AT_FDCWD, closeRead, O, openat2 } from "./sys.ts";

export type ImageStep = Extract<MountStep, { kind: "image" }>;

/** What the filesystems in our images have for blocks (see LoopConfig). */
const blockSize = 4096;

/** Mounts the image on `target`, private. A second mount of one file shows the same filesystem. */
export function mountImage(step: ImageStep, target: string): void {
  using device = deviceOver(step.file);
  mount(callOf(step, device, target));
  orDetach(target, () => mount({ target, flags: MS.PRIVATE }));
}

/** As `mountImage`; the event loop does not wait for the disk. */
export async function mountImageAsync(step: ImageStep, target: string): Promise<void> {
  using device = deviceOver(step.file);
  await mountAsync(callOf(step, device, target));
  orDetach(target, () => mount({ target, flags: MS.PRIVATE }));
}

function callOf({ type, options }: ImageStep, device: LoopDevice, target: string): MountCall {
  const { flags, data } = parseMountOptions(options);
  return { source: device.path, target, type, flags, data: data.join(",") };
}

/** The root of an image's filesystem by a descriptor: it stands nowhere, and goes when it is disposed. */
export function openImage({ type, file, options }: ImageStep): Disposable & { readonly fd: number } {
  using device = deviceOver(file);
  using context = new FilesystemContext(type);
  context.setString("source", device.path);
  const { data, attributes } = parseMountOptions(options);
  for (const option of data) context.setOption(option);
  context.create();
  return context.mount(attributes);
}

/** Why the kernel cannot build a filesystem of `type` out of sight: the code of its answer, or undefined where it can. */
export function filesystemFailure(type: string): string | undefined {
  try {
    using _context = new FilesystemContext(type);
    return undefined;
  } catch (error) {
    return systemCode(error) ?? String(error);
  }
}

function deviceOver(file: string): LoopDevice {
  const fd = openat2(AT_FDCWD, file, { flags: O.RDWR | O.NOFOLLOW });
  try {
    return attachLoop(fd, { direct: true, blockSize });
  } catch (error) {
    if (error instanceof EngineError) throw error;
    const code = systemCode(error) === "ENOENT" || systemCode(error) === "EPERM" ? "unsupported" : "internal";
    throw new EngineError(code, `no loop device can be had for ${file}: ${String(error)}`, { cause: error });
  } finally {
    closeRead(fd);
  }
}
