/**
 * What can limit the size of a directory tree at a place: project quotas where the filesystem keeps them, else
 * a filesystem of that size in a file. Found out by trying; nothing is left behind.
 */
import { constants } from "node:fs";
import { access } from "node:fs/promises";
import { join } from "node:path";
import { systemCode } from "../base/errors.ts";
import { filesystemName } from "./filesystem.ts";
import { fileMount } from "./mount.ts";
import { filesystemFailure } from "./mount-image.ts";
import { tryProjectLimit } from "./project-limit.ts";
import { programPath } from "./size-image.ts";
import { inTrialFolder } from "./trial-folder.ts";
import { inUserNamespace } from "./user-namespace.ts";

export type Limiter =
  | { readonly kind: "project" | "image" }
  /** `reason` says in one sentence why neither can work. */
  | { readonly kind: "none"; readonly reason: string };

/** What limits at `home`, which exists. `overlay`: what is limited is written through an overlay with these options. */
export async function findLimiter(home: string, overlay?: readonly string[]): Promise<Limiter> {
  const project = await projectFailure(home, overlay);
  if (project === undefined) return { kind: "project" };
  const image = await imageFailure();
  return image === undefined ? { kind: "image" } : { kind: "none", reason: `${project}, and ${image}` };
}

const quotaWords = new Set(["prjquota", "pquota"]);

async function projectFailure(home: string, overlay: readonly string[] | undefined): Promise<string | undefined> {
  const filesystem = await filesystemName(home);
  if (!fileMount(home)?.superOptions.some((word) => quotaWords.has(word)))
    return `${home} (${filesystem}) is not mounted with project quotas (prjquota)`;
  return inTrialFolder(home, (scratch) => tryProjectLimit(scratch, overlay));
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
