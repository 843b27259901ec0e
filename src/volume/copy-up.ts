/**
 * Copy-up: an empty volume gets what the image has at the mount point, once, whole or not at all. Staged data is
 * synced before the marker, and the moves before the answer, so a crash at any point is finished or forgotten.
 */
import { lstat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { systemCode } from "../base/errors.ts";
import type { Pool } from "../host/pool.ts";
import { type CopyUpPlace, type CopyUpSource, readyName, stagingNames } from "./copy-up-task.ts";

const tasks = new URL("./copy-up-task.ts", import.meta.url);
const syncs = new URL("../host/durable.ts", import.meta.url);

/** The caller holds the volume's lock and has it mounted; `saved` waits until the driver has what was staged. Throws conflict when the image has a file at the path. */
export async function copyUpInto(
  pool: Pool,
  place: CopyUpPlace,
  source: CopyUpSource,
  { saved }: { readonly saved?: (() => Promise<void>) | undefined } = {},
): Promise<void> {
  if (!(await pool.run<object, boolean>(tasks, "stageCopyUpTask", { ...place, source }))) return;
  await pool.run(syncs, "syncFilesystem", place.volume);
  await saved?.();
  await finish(pool, place, true);
}

/** Finishes what a crash interrupted. */
export const finishCopyUpIn = (pool: Pool, place: CopyUpPlace): Promise<void> => finish(pool, place, false);

/** Two looks, for volumes of this machine's own: whether {@link finishCopyUpIn} has anything to do. */
export async function isCopyUpLeft(place: CopyUpPlace): Promise<boolean> {
  const directory = place.beside ? dirname(place.volume) : place.volume;
  const names = [...Object.values(stagingNames(place)), readyName];
  return (await Promise.all(names.map((name) => exists(join(directory, name))))).includes(true);
}

async function finish(pool: Pool, place: CopyUpPlace, staged: boolean): Promise<void> {
  if (!(await pool.run<object, boolean>(tasks, "finishCopyUpTask", { ...place, staged }))) return;
  await pool.run(syncs, "syncDirectory", place.volume);
  if (place.beside) await pool.run(syncs, "syncDirectory", dirname(place.volume));
}

async function exists(path: string): Promise<boolean> {
  try {
    await lstat(path);
    return true;
  } catch (error) {
    if (systemCode(error) === "ENOENT") return false;
    throw error;
  }
}
