/**
 * Options of a tmpfs: Docker's safe defaults, the user's words over them, and nothing that the kernel would read as
 * something else (moby oci_linux.go, moby/sys mount). Pure.
 */
import { EngineError } from "../base/errors.ts";
import type { MountRequest } from "../base/mount-point.ts";

/** Words of one group exclude each other: the last one said holds. */
const groups: readonly (readonly string[])[] = [
  ["noexec", "exec"],
  ["nosuid", "suid"],
  ["nodev", "dev"],
  ["rprivate", "private", "rshared", "shared", "rslave", "slave", "unbindable", "runbindable"],
  ["ro", "rw"],
  ["sync", "async"],
  ["dirsync"],
  ["mand", "nomand"],
  ["atime", "noatime"],
  ["diratime", "nodiratime"],
  ["relatime", "norelatime"],
  ["strictatime", "nostrictatime"],
];

const defaults = ["noexec", "nosuid", "nodev", "rprivate"] as const;
const withValue: ReadonlySet<string> = new Set(["size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"]);

/** What the kernel takes; it refuses the rest of the values by itself, at the start. */
const goodValue: Readonly<Record<string, RegExp>> = {
  size: /^\d+[kmgtpe]?%?$/i,
  mode: /^[0-7]{1,5}$/,
  uid: /^\d+$/,
  gid: /^\d+$/,
  nr_inodes: /^\d+[kmgtpe]?$/i,
  nr_blocks: /^\d+[kmgtpe]?$/i,
};

/** `given` as after `--tmpfs /path:`; the answer is whole: defaults, then what was said last of each kind. Throws invalid_argument. */
export function tmpfsOptions(given: string): string {
  const chosen = new Map<string, string>();
  for (const option of [...defaults, ...(given === "" ? [] : given.split(","))]) {
    if (option === "defaults") continue;
    const kind = kindOf(option);
    chosen.delete(kind);
    chosen.set(kind, option);
  }
  return [...chosen.values()].join(",");
}

function kindOf(option: string): string {
  const group = groups.findIndex((words) => words.includes(option));
  if (group >= 0) return String(group);
  const equals = option.indexOf("=");
  const key = equals < 0 ? "" : option.slice(0, equals);
  if (withValue.has(key)) {
    const value = option.slice(equals + 1);
    if (goodValue[key]?.test(value) !== false) return key;
    throw new EngineError("invalid_argument", `invalid value for tmpfs option ${key}: ${JSON.stringify(value)}`);
  }
  const words = equals < 0 ? [option] : [key, option.slice(equals + 1)];
  throw new EngineError(
    "invalid_argument",
    `Invalid tmpfs option [${words.map((word) => JSON.stringify(word)).join(" ")}]`,
  );
}

/** The words of `TmpfsOptions` of a mount request, as they would stand after `--tmpfs /path:`. Throws invalid_argument. */
export function requestedTmpfsOptions(request: MountRequest): string {
  const { SizeBytes = 0, Mode = 0, Options = [] } = request.TmpfsOptions ?? {};
  const words: string[] = request.ReadOnly === true ? ["ro"] : [];
  if (Mode !== 0) words.push(`mode=${Mode.toString(8)}`);
  if (SizeBytes !== 0) words.push(`size=${withSuffix(SizeBytes)}`);
  for (const option of Options) words.push(plainOption(option));
  return words.join(",");
}

function withSuffix(bytes: number): string {
  for (const [suffix, unit] of [
    ["g", 2 ** 30],
    ["m", 2 ** 20],
    ["k", 2 ** 10],
  ] as const)
    if (bytes % unit === 0) return `${bytes / unit}${suffix}`;
  return String(bytes);
}

function plainOption(option: readonly string[]): string {
  const [word = "", ...more] = option;
  if (option.length < 1 || option.length > 2) throw new EngineError("invalid_argument", "invalid option array length");
  if ((word !== "exec" && word !== "noexec") || more.length > 0)
    throw new EngineError("invalid_argument", `invalid option: ${option.join("=")}`);
  return word;
}
