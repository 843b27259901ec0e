/**
 * Docker's `SecurityOpt`: `seccomp=`, `apparmor=`, `no-new-privileges`, `label=disable`. What this host cannot do is
 * refused with the reason; nothing is accepted and then ignored.
 */
import { readFileSync } from "node:fs";
import { EngineError } from "../base/errors.ts";
import { defaultSeccompProfile, parseSeccompProfile, toOciSeccomp } from "./seccomp.ts";
import { kernelRunsX32 } from "./x32.ts";

export type ResolvedSecurity = { readonly seccomp: Record<string, unknown> | undefined };

type Option = { readonly name: string; readonly value: string | undefined };

const known = new Set(["seccomp", "apparmor", "no-new-privileges", "label"]);

function parse(option: string): Option {
  const at = option.search(/[=:]/);
  const name = at < 0 ? option : option.slice(0, at);
  const value = at < 0 ? undefined : option.slice(at + 1);
  if (!known.has(name) || (value === undefined && name !== "no-new-privileges"))
    throw new EngineError("invalid_argument", `invalid --security-opt: ${JSON.stringify(option)}`);
  if (name === "label" && value !== "disable")
    throw new EngineError("unsupported", `SELinux labels are not supported on this host: leave ${option} out`);
  return { name, value };
}

const lastOf = (options: readonly string[], name: string): Option | undefined =>
  options.map(parse).findLast((option) => option.name === name);

/** True with `no-new-privileges`, unless it says `false`. */
export function wantsNoNewPrivileges(options: readonly string[]): boolean {
  const option = lastOf(options, "no-new-privileges");
  if (option === undefined) return false;
  if (option.value !== undefined && option.value !== "true" && option.value !== "false")
    throw new EngineError(
      "invalid_argument",
      `invalid --security-opt: no-new-privileges is true or false, not ${JSON.stringify(option.value)}`,
    );
  return option.value !== "false";
}

/** The seccomp filter for these capabilities; none when privileged or unconfined. */
export async function resolveSecurity(
  options: readonly string[],
  privileged: boolean,
  capabilities: readonly string[],
): Promise<ResolvedSecurity> {
  const value = lastOf(options, "seccomp")?.value;
  if (value === "unconfined" || (privileged && value === undefined)) return { seccomp: undefined };
  const custom = value === undefined || value === "builtin" ? undefined : parseSeccompProfile(value);
  const profile = custom ?? (await defaultSeccompProfile());
  return { seccomp: profile === undefined ? undefined : toOciSeccomp(profile, capabilities, await kernelRunsX32()) };
}

/** The AppArmor profile to run under: the one that is asked for, Docker's own where it is loaded, or none. */
export async function resolveAppArmor(options: readonly string[], privileged: boolean): Promise<string | undefined> {
  const wanted = lastOf(options, "apparmor")?.value;
  const loaded = appArmorProfiles();
  if (wanted === undefined) return !privileged && loaded?.has("docker-default") ? "docker-default" : undefined;
  if (loaded !== undefined) return wanted;
  if (wanted === "unconfined") return undefined;
  throw new EngineError("unsupported", `this kernel has no AppArmor: leave apparmor=${wanted} out`);
}

function appArmorProfiles(): ReadonlySet<string> | undefined {
  try {
    if (readFileSync("/sys/module/apparmor/parameters/enabled", "utf8").trim() !== "Y") return undefined;
    const text = readFileSync("/sys/kernel/security/apparmor/profiles", "utf8");
    return new Set(text.split("\n").map((line) => line.split(" (")[0] ?? ""));
  } catch {
    return undefined;
  }
}
