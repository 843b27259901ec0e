/**
 * Copy-up: an empty volume gets what the image has at the mount point, once, whole or not at all. Staged data is
 * synced before the marker, and the moves before the answer, so a crash at any point is finished or forgotten.
 */
import { lstat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { systemCode } from "../base/errors.ts";
import { syncDirectory, syncFilesystem } from "../host/durable.ts";
import type { Pool } from "../host/pool.ts";
import { type CopyUpPlace, type CopyUpSource, stagingNames } from "./copy-up-task.ts";

const tasks = new URL("./copy-up-task.ts", import.meta.url);

/** The caller holds the volume's lock and has it mounted. Throws conflict when the image has a file at the path. */
export async function copyUpInto(pool: Pool, place: CopyUpPlace, source: CopyUpSource): Promise<void> {
  if (!(await pool.run<object, boolean>(tasks, "stageCopyUpTask", { ...place, source }))) return;
  await syncFilesystem(place.volume);
  await finish(pool, place, true);
}

/** Finishes what a crash interrupted; two looks at the disk where there is nothing. */
export async function finishCopyUpIn(pool: Pool, place: CopyUpPlace): Promise<void> {
  const directory = place.beside ? dirname(place.volume) : place.volume;
  const left = await Promise.all(Object.values(stagingNames).map((name) => exists(join(directory, name))));
  if (left.includes(true)) await finish(pool, place, false);
}

async function finish(pool: Pool, place: CopyUpPlace, staged: boolean): Promise<void> {
  if (!(await pool.run<object, boolean>(tasks, "finishCopyUpTask", { ...place, staged }))) return;
  await syncDirectory(place.volume);
  if (place.beside) await syncDirectory(dirname(place.volume));
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
