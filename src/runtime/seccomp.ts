/**
 * Seccomp: a profile in Docker's form (rules that hold for some architectures, capabilities or kernels) becomes one in
 * OCI's form. The profile is the distribution's; an administrator's or a request's own takes its place.
 */
import { readFile } from "node:fs/promises";
import { arch as nodeArch, release } from "node:os";
import { EngineError, errorMessage } from "../base/errors.ts";

/** Where profiles are looked for, in order. */
const profilePaths = ["/etc/docker/seccomp.json", "/etc/containers/seccomp.json", "/usr/share/containers/seccomp.json"];

type Condition = {
  readonly caps?: readonly string[];
  readonly arches?: readonly string[];
  readonly minKernel?: string;
};

type Rule = {
  readonly name?: string;
  readonly names?: readonly string[];
  readonly action: string;
  readonly errnoRet?: number;
  readonly args?: readonly unknown[] | null;
  readonly includes?: Condition | null;
  readonly excludes?: Condition | null;
};

/** A profile as Docker writes it. */
export type SeccompProfile = {
  readonly defaultAction: string;
  readonly defaultErrnoRet?: number;
  readonly architectures?: readonly string[] | null;
  readonly archMap?:
    | readonly { readonly architecture: string; readonly subArchitectures?: readonly string[] | null }[]
    | null;
  readonly flags?: readonly string[];
  readonly syscalls?: readonly Rule[] | null;
};

/** Go's and libseccomp's names of what Node runs on. */
const architectures: Readonly<Record<string, { readonly go: string; readonly scmp: string }>> = {
  x64: { go: "amd64", scmp: "SCMP_ARCH_X86_64" },
  arm64: { go: "arm64", scmp: "SCMP_ARCH_AARCH64" },
  arm: { go: "arm", scmp: "SCMP_ARCH_ARM" },
  ppc64: { go: "ppc64le", scmp: "SCMP_ARCH_PPC64LE" },
  s390x: { go: "s390x", scmp: "SCMP_ARCH_S390X" },
  riscv64: { go: "riscv64", scmp: "SCMP_ARCH_RISCV64" },
};

let loaded: Promise<SeccompProfile | undefined> | undefined;

/** The host's default profile; undefined when it has none. Read once. */
export function defaultSeccompProfile(): Promise<SeccompProfile | undefined> {
  loaded ??= loadFirst();
  return loaded;
}

async function loadFirst(): Promise<SeccompProfile | undefined> {
  for (const path of profilePaths) {
    const text = await readFile(path, "utf8").catch(() => undefined);
    if (text !== undefined) return parseSeccompProfile(text);
  }
  return undefined;
}

/** Decodes a profile that a request or a file gave. Throws invalid_argument in Docker's words. */
export function parseSeccompProfile(text: string): SeccompProfile {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new EngineError("invalid_argument", `Decoding seccomp profile failed: ${errorMessage(error)}`, {
      cause: error,
    });
  }
  if (!isProfile(value))
    throw new EngineError(
      "invalid_argument",
      "Decoding seccomp profile failed: defaultAction or syscalls have a wrong form",
    );
  return value;
}

function isProfile(value: unknown): value is SeccompProfile {
  if (typeof value !== "object" || value === null) return false;
  const { defaultAction, syscalls } = value as Record<string, unknown>;
  if (typeof defaultAction !== "string") return false;
  if (syscalls === undefined || syscalls === null) return true;
  return Array.isArray(syscalls) && syscalls.every(isRule);
}

function isRule(value: unknown): boolean {
  if (typeof value !== "object" || value === null) return false;
  const { name, names, action } = value as Record<string, unknown>;
  const named = typeof name === "string" || (Array.isArray(names) && names.every((each) => typeof each === "string"));
  return named && typeof action === "string";
}

/** The `linux.seccomp` object for a container with these capabilities on this machine. `x32`: the kernel runs such programs. */
export function toOciSeccomp(
  profile: SeccompProfile,
  capabilities: readonly string[],
  x32: boolean,
): Record<string, unknown> {
  const arch = architectures[nodeArch()];
  const here: Facts = { capabilities: new Set(capabilities), arch: arch?.go ?? "", kernel: release() };
  const mapped = (profile.archMap ?? []).find((entry) => entry.architecture === arch?.scmp);
  const all = mapped === undefined ? profile.architectures : [mapped.architecture, ...(mapped.subArchitectures ?? [])];
  const own = all?.filter((name) => x32 || name !== "SCMP_ARCH_X32");
  const syscalls = (profile.syscalls ?? []).filter((rule) => applies(rule, here)).map(toOciRule);
  return {
    defaultAction: profile.defaultAction,
    ...(profile.defaultErrnoRet === undefined ? {} : { defaultErrnoRet: profile.defaultErrnoRet }),
    ...(own === undefined || own.length === 0 ? {} : { architectures: own }),
    ...(profile.flags === undefined ? {} : { flags: profile.flags }),
    syscalls: joined(syscalls),
  };
}

type Facts = { readonly capabilities: ReadonlySet<string>; readonly arch: string; readonly kernel: string };
type OciRule = {
  readonly names: readonly string[];
  readonly action: string;
  readonly errnoRet?: number;
  readonly args?: readonly unknown[];
};

function toOciRule(rule: Rule): OciRule {
  const names = rule.names ?? (rule.name === undefined ? [] : [rule.name]);
  return {
    names,
    action: rule.action,
    ...(rule.errnoRet === undefined ? {} : { errnoRet: rule.errnoRet }),
    ...(rule.args == null || rule.args.length === 0 ? {} : { args: rule.args }),
  };
}

/** Rules without arguments and with one action are one rule: the runtime reads and compiles less. */
function joined(rules: readonly OciRule[]): OciRule[] {
  const plain = new Map<string, OciRule>();
  const others: OciRule[] = [];
  for (const rule of rules) {
    if (rule.args !== undefined) {
      others.push(rule);
      continue;
    }
    const key = `${rule.action} ${rule.errnoRet}`;
    const before = plain.get(key);
    plain.set(key, before === undefined ? rule : { ...rule, names: [...new Set([...before.names, ...rule.names])] });
  }
  return [...plain.values(), ...others];
}

function applies(rule: Rule, here: Facts): boolean {
  const { includes, excludes } = rule;
  if (excludes?.arches?.includes(here.arch)) return false;
  if (excludes?.caps?.some((cap) => here.capabilities.has(cap))) return false;
  if (excludes?.minKernel !== undefined && kernelAtLeast(here.kernel, excludes.minKernel)) return false;
  if (includes?.arches?.length && !includes.arches.includes(here.arch)) return false;
  if (includes?.caps?.some((cap) => !here.capabilities.has(cap))) return false;
  return includes?.minKernel === undefined || kernelAtLeast(here.kernel, includes.minKernel);
}

function kernelAtLeast(kernel: string, wanted: string): boolean {
  const [major = 0, minor = 0] = kernel.split(/[.-]/).map(Number);
  const [wantedMajor = 0, wantedMinor = 0] = wanted.split(".").map(Number);
  return major > wantedMajor || (major === wantedMajor && minor >= wantedMinor);
}
