/**
 * The overlay options that this kernel understands, and that this driver insists on: nothing may make a diff directory
 * mean more than its files say (no redirects, no metadata-only copies, no index), whatever the kernel's defaults are.
 * A directory rename over lower layers then fails with EXDEV, which tools handle by copying.
 */
import { access } from "node:fs/promises";
import { EngineError } from "../../base/errors.ts";
import { overlayAppends } from "../../host/mount-overlay.ts";
import { inUserNamespace } from "../../host/user-namespace.ts";
import { checkedSize, type SizeRules } from "../size-limit.ts";

/** What Docker says where a container's limit cannot be kept. */
export const sizeRefusal = "--storage-opt is supported only for overlay over xfs with 'pquota' mount option";

/** Options that are forced off where the kernel has them (/sys/module/overlay/parameters). */
const forced = [
  { parameter: "index", option: "index=off" },
  { parameter: "metacopy", option: "metacopy=off" },
  // "nofollow" rather than "off": a redirect that was planted from outside is not followed either.
  { parameter: "redirect_dir", option: "redirect_dir=nofollow" },
] as const;

/** The options of every overlay mount of this driver. */
export async function mountOptions(): Promise<readonly string[]> {
  const options: string[] = [];
  // A module that is not loaded yet shows no parameters, and its defaults would hold.
  overlayAppends();
  for (const { parameter, option } of forced)
    if (await exists(`/sys/module/overlay/parameters/${parameter}`)) options.push(option);
  if (inUserNamespace()) options.push("userxattr");
  return options;
}

export type DaemonOptions = SizeRules & { readonly volatile: boolean };

/** The daemon's options. Throws invalid_argument for one that is unknown or no size. */
export function parseDaemonOptions(options: Readonly<Record<string, string>>): DaemonOptions {
  let rules: SizeRules = { driver: "overlay2" };
  let volatile = false;
  for (const [key, value] of Object.entries(options)) {
    if (key === "overlay2.override_kernel_check") parseBoolean(key, value);
    else if (key === "overlay2.volatile") volatile = parseBoolean(key, value);
    else if (key === "overlay2.size") rules = { ...rules, standard: checkedSize(value, rules) };
    else throw new EngineError("invalid_argument", `overlay2: unknown option ${key}`);
  }
  return { ...rules, volatile };
}

function parseBoolean(key: string, value: string): boolean {
  if (!/^(1|0|t|f|true|false)$/i.test(value))
    throw new EngineError("invalid_argument", `overlay2: ${key} must be true or false, not ${JSON.stringify(value)}`);
  return /^(1|t)/i.test(value);
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
