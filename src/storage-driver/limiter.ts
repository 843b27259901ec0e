/**
 * What can limit the size of a directory tree at a driver's home: project quotas where the filesystem keeps them, else
 * a filesystem of that size in a file. Found out when a driver is opened; nothing is left behind.
 */
import { constants } from "node:fs";
import { access } from "node:fs/promises";
import { join } from "node:path";
import { systemCode } from "../base/errors.ts";
import { fileMount } from "../host/mount.ts";
import { filesystemFailure } from "../host/mount-image.ts";
import { inUserNamespace } from "../host/user-namespace.ts";
import { filesystemName } from "./filesystem.ts";
import { inTrialFolder } from "./overlay-trial.ts";
import { tryProjectLimit } from "./project-limit.ts";
import { programPath, smallestImage } from "./size-image.ts";

export type Limiter =
  | { readonly kind: "project" | "image" }
  /** `reason` says in one sentence why neither can work. */
  | { readonly kind: "none"; readonly reason: string };

/** A container may not ask for less, in bytes. */
export const smallestSize = (limiter: Limiter): number | undefined =>
  limiter.kind === "image" ? smallestImage : undefined;

/** What limits at `home`, which exists. */
export async function findLimiter(home: string): Promise<Limiter> {
  const project = await projectFailure(home);
  if (project === undefined) return { kind: "project" };
  const image = await imageFailure();
  return image === undefined ? { kind: "image" } : { kind: "none", reason: `${project}, and ${image}` };
}

const quotaWords = new Set(["prjquota", "pquota"]);

async function projectFailure(home: string): Promise<string | undefined> {
  const filesystem = await filesystemName(home);
  if (!fileMount(home)?.superOptions.some((word) => quotaWords.has(word)))
    return `${home} (${filesystem}) is not mounted with project quotas (prjquota)`;
  return inTrialFolder(home, tryProjectLimit);
}

async function imageFailure(): Promise<string | undefined> {
  if (inUserNamespace()) return "no filesystem in a file can be mounted in a user namespace";
  const missing = filesystemFailure("ext4");
  if (missing !== undefined) return `this kernel cannot mount a filesystem out of sight (${missing}; Linux 5.2 can)`;
  try {
    await access("/dev/loop-control", constants.R_OK | constants.W_OK);
  } catch (error) {
    return `there are no loop devices (/dev/loop-control: ${systemCode(error)})`;
  }
  for (const folder of programPath.split(":")) if (await isProgram(join(folder, "mkfs.ext4"))) return undefined;
  return "mkfs.ext4 is not installed (e2fsprogs)";
}

async function isProgram(path: string): Promise<boolean> {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  );
}
