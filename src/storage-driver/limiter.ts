/**
 * What can limit the size of a directory tree at a driver's home: project quotas where the filesystem keeps them, else
 * a filesystem of that size in a file. Found out when a driver is opened; nothing is left behind.
 */
import { constants } from "node:fs";
import { access } from "node:fs/promises";
import { join } from "node:path";
import { EngineError, systemCode } from "../base/errors.ts";
import { fileMount } from "../host/mount.ts";
import { filesystemFailure } from "../host/mount-image.ts";
import { inUserNamespace } from "../host/user-namespace.ts";
import { filesystemName } from "./filesystem.ts";
import { inTrialFolder } from "./overlay-trial.ts";
import { tryProjectLimit } from "./project-limit.ts";
import { programPath, smallestImage } from "./size-image.ts";
import { checkedSize, containerSize, type SizeRules } from "./size-limit.ts";

export type Limiter =
  | { readonly kind: "project" | "image" }
  /** `reason` says in one sentence why neither can work. */
  | { readonly kind: "none"; readonly reason: string };

/** What the daemon's options ask for, where it can be kept; throws unsupported or invalid_argument where it cannot. */
export function limitRules(asked: SizeRules, limiter: Limiter): SizeRules {
  const rules: SizeRules = { ...asked, minimum: limiter.kind === "image" ? smallestImage : undefined };
  const { driver, standard } = rules;
  if (standard === undefined) return rules;
  if (limiter.kind === "none")
    throw new EngineError("unsupported", `Storage option ${driver}.size not supported: ${limiter.reason}`);
  return { ...rules, standard: checkedSize(`${standard}`, rules) };
}

export type Refusal = {
  readonly limiter: Limiter;
  /** What the driver says where it cannot keep a limit; the reason follows. */
  readonly words: string;
};

/** The limit that a container's `options` ask for, where it can be kept. */
export function writableSize(
  options: Readonly<Record<string, string>>,
  rules: SizeRules,
  { limiter, words }: Refusal,
): number | undefined {
  const size = containerSize(options, rules);
  if (size !== undefined && limiter.kind === "none")
    throw new EngineError("invalid_argument", `${words} (${limiter.reason})`);
  return size;
}

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
