/** Scratch folders at a place that may not exist yet: what is tried there leaves no folder. */
import { mkdir, mkdtemp, rm, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { systemCode } from "../base/errors.ts";
import { nearestExisting } from "./filesystem.ts";
import { unmountAllAsync } from "./mount.ts";

/** Lends `use` a scratch folder in `home`, which is made for the time when it does not exist. */
export async function inTrialFolder<T>(home: string, use: (scratch: string) => Promise<T>): Promise<T> {
  const above = await nearestExisting(home);
  await mkdir(home, { recursive: true, mode: 0o710 });
  const scratch = await mkdtemp(join(home, ".trial-"));
  try {
    return await use(scratch);
  } finally {
    // Where taking it away failed before.
    await unmountAllAsync(join(scratch, "merged"));
    await rm(scratch, { recursive: true, force: true });
    await removeEmpty(home, above);
  }
}

/** Takes away the folders that the trial made, from `path` up to (not including) `above`; one that is used stays. */
async function removeEmpty(path: string, above: string): Promise<void> {
  for (let folder = path; folder.length > above.length; folder = join(folder, "..")) {
    try {
      await rmdir(folder);
    } catch (error) {
      if (systemCode(error) === "ENOTEMPTY" || systemCode(error) === "ENOENT") return;
      throw error;
    }
  }
}
