/**
 * The overlay options that this kernel understands, and that this driver insists on: nothing may make a diff directory
 * mean more than its files say (no redirects, no metadata-only copies, no index), whatever the kernel's defaults are.
 * A directory rename over lower layers then fails with EXDEV, which tools handle by copying.
 */
import { readFileSync } from "node:fs";
import { access } from "node:fs/promises";
import { EngineError } from "../../base/errors.ts";

const sizeRefusal = "--storage-opt is supported only for overlay over xfs with 'pquota' mount option";

/** Options that are forced off where the kernel has them (/sys/module/overlay/parameters). */
const forced = [
  { parameter: "index", option: "index=off" },
  { parameter: "metacopy", option: "metacopy=off" },
  // "nofollow" rather than "off": a redirect that was planted from outside is not followed either.
  { parameter: "redirect_dir", option: "redirect_dir=nofollow" },
] as const;

let known: boolean | undefined;

/** True in a user namespace, where overlayfs keeps its marks in user.overlay.* instead of trusted.overlay.*. */
export function inUserNamespace(): boolean {
  known ??= readFileSync("/proc/self/uid_map", "utf8").trim().split(/\s+/).join(" ") !== "0 0 4294967295";
  return known;
}

/** The options of every overlay mount of this driver. */
export async function mountOptions(): Promise<readonly string[]> {
  const options: string[] = [];
  for (const { parameter, option } of forced)
    if (await exists(`/sys/module/overlay/parameters/${parameter}`)) options.push(option);
  if (inUserNamespace()) options.push("userxattr");
  return options;
}

/** Checks the daemon's options. Throws invalid_argument for one that is unknown or cannot be kept. */
export function checkDaemonOptions(options: Readonly<Record<string, string>>): void {
  for (const [key, value] of Object.entries(options)) {
    if (key === "overlay2.override_kernel_check") checkBoolean(key, value);
    else if (key === "overlay2.size") throw new EngineError("invalid_argument", sizeRefusal);
    else throw new EngineError("invalid_argument", `overlay2: unknown option ${key}`);
  }
}

/** Checks the options of one container. */
export function checkContainerOptions(options: Readonly<Record<string, string>>): void {
  for (const key of Object.keys(options)) {
    if (key.toLowerCase() === "size") throw new EngineError("invalid_argument", sizeRefusal);
    throw new EngineError("invalid_argument", `Unknown option ${key}`);
  }
}

function checkBoolean(key: string, value: string): void {
  if (!/^(1|0|t|f|true|false)$/i.test(value))
    throw new EngineError("invalid_argument", `overlay2: ${key} must be true or false, not ${JSON.stringify(value)}`);
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
