/**
 * Trying out an overlay at a home: a small tree is made there, a lower file deleted through the mount, a directory
 * replaced, and the result read back. What mounts it is the driver's affair.
 *
 * Promises: leaves no mount and no file, also when it fails.
 */
import { mkdir, mkdtemp, readdir, rm, rmdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { errorMessage, systemCode } from "../base/errors.ts";
import type { MountStep } from "../base/mount.ts";
import { mountAllAsync, unmountAllAsync } from "../host/mount.ts";
import { filesystemName, nearestExisting } from "./filesystem.ts";

/** The overlay to try: of the folders `lower`, `upper` and `work` in `scratch`. */
export type TrialStep = (scratch: string) => MountStep;

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

/** Why an overlay does not work in `scratch`; `name` is what the sentence calls it. */
export async function overlayFailure(name: string, scratch: string, step: TrialStep): Promise<string | undefined> {
  const home = join(scratch, "..");
  const filesystem = await filesystemName(scratch);
  const target = await makeTree(scratch);
  try {
    await mountAllAsync([step(scratch)], target);
  } catch (error) {
    return `${name} cannot be mounted over ${home} (${filesystem}): ${errorMessage(error)}`;
  }
  try {
    await rm(join(target, "shared", "gone"));
    await rm(join(target, "shared", "folder"), { recursive: true });
    await mkdir(join(target, "shared", "folder"));
    const seen = [...(await readdir(join(target, "shared"))), ...(await readdir(join(target, "shared", "folder")))];
    // Without d_type the kernel cannot tell a whiteout from a file, and what was deleted is listed still.
    if (seen.join() !== "folder") return `${home} (${filesystem}) does not support d_type, which ${name} needs`;
    return undefined;
  } catch (error) {
    return `${name} over ${home} (${filesystem}) cannot delete a lower file: ${errorMessage(error)}`;
  } finally {
    await unmountAllAsync(target);
  }
}

/** Whether the overlay can be mounted once more, after {@link overlayFailure} made its folders. */
export async function mountsAgain(scratch: string, step: TrialStep): Promise<boolean> {
  const target = join(scratch, "merged");
  try {
    await mountAllAsync([step(scratch)], target);
    await unmountAllAsync(target);
    return true;
  } catch {
    return false;
  }
}

async function makeTree(scratch: string): Promise<string> {
  for (const folder of ["lower/shared/folder", "lower/apart", "upper/shared", "work", "merged"])
    await mkdir(join(scratch, folder), { recursive: true });
  await writeFile(join(scratch, "lower/shared/gone"), "");
  await writeFile(join(scratch, "lower/shared/folder/inner"), "");
  await writeFile(join(scratch, "lower/apart/inner"), "content");
  return join(scratch, "merged");
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
