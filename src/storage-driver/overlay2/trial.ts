/**
 * Whether overlayfs works at a home, found out by using it: a small overlay is mounted there, a lower file deleted
 * through it, a directory replaced, and the result read back. Nothing is asked of version numbers.
 *
 * Promises: leaves no mount and no file, also when it fails.
 */
import { mkdir, mkdtemp, readdir, rm, rmdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { errorMessage, systemCode } from "../../base/errors.ts";
import { mountAll, unmountAll } from "../../host/mount.ts";
import { filesystemName, nearestExisting } from "../filesystem.ts";

/** What a trial found: `reason` says in one sentence why overlay cannot work. */
export type Trial = { readonly reason: string } | { readonly reason: undefined; readonly volatile: boolean };

/** Tries overlayfs with `options` in the folder `home`, which is made for the trial when it does not exist. */
export async function tryOverlay(home: string, options: readonly string[]): Promise<Trial> {
  const above = await nearestExisting(home);
  await mkdir(home, { recursive: true, mode: 0o710 });
  const scratch = await mkdtemp(join(home, ".trial-"));
  try {
    const reason = await failureOf(scratch, home, options);
    if (reason !== undefined) return { reason };
    return { reason: undefined, volatile: await mountsWith(scratch, [...options, "volatile"]) };
  } finally {
    await rm(scratch, { recursive: true, force: true });
    await removeEmpty(home, above);
  }
}

async function failureOf(scratch: string, home: string, options: readonly string[]): Promise<string | undefined> {
  const filesystem = await filesystemName(scratch);
  const target = await makeTree(scratch);
  try {
    mountTrial(scratch, options);
  } catch (error) {
    return `overlayfs cannot be mounted over ${home} (${filesystem}): ${errorMessage(error)}`;
  }
  try {
    await rm(join(target, "shared", "gone"));
    await rm(join(target, "shared", "folder"), { recursive: true });
    await mkdir(join(target, "shared", "folder"));
    const seen = [...(await readdir(join(target, "shared"))), ...(await readdir(join(target, "shared", "folder")))];
    // Without d_type the kernel cannot tell a whiteout from a file, and what was deleted is listed still.
    if (seen.join() !== "folder") return `${home} (${filesystem}) does not support d_type, which overlayfs needs`;
    return undefined;
  } catch (error) {
    return `overlayfs over ${home} (${filesystem}) cannot delete a lower file: ${errorMessage(error)}`;
  } finally {
    unmountAll(target);
  }
}

async function mountsWith(scratch: string, options: readonly string[]): Promise<boolean> {
  const target = join(scratch, "merged");
  try {
    mountTrial(scratch, options);
    unmountAll(target);
    return true;
  } catch {
    return false;
  }
}

async function makeTree(scratch: string): Promise<string> {
  for (const folder of ["lower/shared/folder", "upper/shared", "work", "merged"])
    await mkdir(join(scratch, folder), { recursive: true });
  await writeFile(join(scratch, "lower/shared/gone"), "");
  await writeFile(join(scratch, "lower/shared/folder/inner"), "");
  return join(scratch, "merged");
}

function mountTrial(scratch: string, options: readonly string[]): void {
  const at = (name: string): string => join(scratch, name);
  mountAll([{ kind: "overlay", lower: [at("lower")], upper: at("upper"), work: at("work"), options }], at("merged"));
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
