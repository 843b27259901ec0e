/**
 * Trying out an overlay at a home: a small tree is made there, a lower file deleted through the mount, a directory
 * replaced, and the result read back. What mounts it is the driver's affair.
 *
 * Promises: leaves no mount and no file, also when it fails.
 */
import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { errorMessage } from "../base/errors.ts";
import type { MountStep } from "../base/mount.ts";
import { filesystemName } from "../host/filesystem.ts";
import { mountAllAsync, unmountAllAsync } from "../host/mount.ts";

/** The overlay to try: of the folders `lower`, `upper` and `work` in `scratch`. */
export type TrialStep = (scratch: string) => MountStep;

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
