/** Uses of volumes: mounting, unmounting, and copy-up, which is finished before anybody sees what a crash interrupted. */
import { randomBytes } from "node:crypto";
import { isMountPoint } from "../host/mount.ts";
import { driverOf, findVolume, haveVolume, isRemoteVolume, poolFor, type VolumeContext } from "./context.ts";
import { copyUpInto, finishCopyUpIn, isCopyUpLeft } from "./copy-up.ts";
import type { CopyUpPlace } from "./copy-up-task.ts";
import { specOf } from "./records.ts";
import { finishRestore } from "./restore-copy.ts";
import type { Volume } from "./store.ts";
import { usedStatement } from "./verb-records.ts";

export async function mountVolume(context: VolumeContext, name: string, use: string): Promise<string> {
  return context.locks.run(name, async () => {
    const path = await mountWhole(context, haveVolume(context, name), use);
    context.uses.set(name, (context.uses.get(name) ?? new Set()).add(use));
    await noteUse(context, name);
    return path;
  });
}

export async function retakeVolume(context: VolumeContext, name: string, use: string): Promise<string> {
  return context.locks.run(name, async () => {
    const volume = haveVolume(context, name);
    // In use, whatever its driver can say of it now.
    context.uses.set(name, (context.uses.get(name) ?? new Set()).add(use));
    if (!isRemoteVolume(context, volume)) return mountWhole(context, volume, use);
    return driverOf(context, volume).retake(specOf(volume), use);
  });
}

export async function askVolume<T>(context: VolumeContext, name: string, work: () => Promise<T>): Promise<T> {
  const volume = findVolume(context, name);
  if (volume === undefined || !isRemoteVolume(context, volume)) return work();
  return driverOf(context, volume).asking(specOf(volume), work);
}

export async function unmountVolume(context: VolumeContext, name: string, use: string): Promise<void> {
  await context.locks.run(name, async () => {
    const volume = findVolume(context, name);
    if (volume === undefined) return;
    await driverOf(context, volume).unmount(specOf(volume), use);
    const uses = context.uses.get(name);
    if (uses?.delete(use) !== true) return;
    if (uses.size === 0) context.uses.delete(name);
    await noteUse(context, name);
  });
}

/** When it was last used; a power cut may take that. */
async function noteUse({ database }: VolumeContext, name: string): Promise<void> {
  await database.transact([usedStatement(name, new Date().toISOString())], { durable: false });
}

/** A use by the engine's own work, which ends when it is disposed. */
export async function useVolume(
  context: VolumeContext,
  name: string,
): Promise<AsyncDisposable & { readonly path: string; readonly volume: Volume }> {
  const use = `work-${randomBytes(16).toString("hex")}`;
  return context.locks.run(name, async () => {
    const volume = haveVolume(context, name);
    const path = await mountWhole(context, volume, use);
    const end = (): Promise<void> =>
      context.locks.run(name, () => driverOf(context, volume).unmount(specOf(volume), use));
    return { path, volume, [Symbol.asyncDispose]: end };
  });
}

export async function copyUpVolume(
  context: VolumeContext,
  name: string,
  source: { readonly root: string; readonly path: string },
): Promise<void> {
  await context.locks.run(name, async () => {
    const volume = haveVolume(context, name);
    const use = `copy-up-${randomBytes(16).toString("hex")}`;
    const path = await mountWhole(context, volume, use);
    try {
      const place = placeOf(context, volume, path);
      const saved = (): Promise<void> | undefined => driverOf(context, volume).saved?.(specOf(volume));
      await askVolume(context, name, () =>
        copyUpInto(poolFor(context, volume), place, source, { saved: async () => saved() }),
      );
    } catch (error) {
      context.whole.delete(name);
      throw error;
    } finally {
      await driverOf(context, volume).unmount(specOf(volume), use);
    }
  });
}

function placeOf(context: VolumeContext, volume: Volume, path: string): CopyUpPlace {
  const { ownsParent, sized } = driverOf(context, volume).traits;
  // The data of a limited volume is a project or a subvolume of its own: nothing is renamed into it from outside.
  const limited = sized === true && volume.options.size !== undefined;
  const beside = ownsParent && !limited && !isMountPoint(path);
  return { volume: path, beside, owner: context.owner };
}

/** Mounts; a copy-up or a restore that a crash interrupted is finished before anybody sees the volume. The caller holds its lock. */
export async function mountWhole(context: VolumeContext, volume: Volume, use: string): Promise<string> {
  const driver = driverOf(context, volume);
  const path = await driver.mount(specOf(volume), use);
  if (context.whole.has(volume.name)) return path;
  try {
    await finishRestore(context, volume, path);
    const place = placeOf(context, volume, path);
    if (isRemoteVolume(context, volume) || (await isCopyUpLeft(place)))
      await askVolume(context, volume.name, () => finishCopyUpIn(poolFor(context, volume), place));
  } catch (error) {
    await driver.unmount(specOf(volume), use);
    throw error;
  }
  context.whole.add(volume.name);
  return path;
}
