/**
 * The `process` object of the OCI spec: of a container's first process, and of one more that `exec` adds.
 */
import { readFileSync } from "node:fs";
import { EngineError } from "../base/errors.ts";
import { type CapabilityRequest, heldCapabilities, resolveCapabilities } from "./capabilities.ts";
import { resolveAppArmor, wantsNoNewPrivileges } from "./security.ts";

export type ProcessInput = CapabilityRequest & {
  readonly args: readonly string[];
  readonly env: readonly string[];
  /** Absolute; "" is "/". */
  readonly cwd: string;
  readonly user: { readonly uid: number; readonly gid: number; readonly additionalGids: readonly number[] };
  readonly tty: boolean;
  /** Docker's `SecurityOpt`. */
  readonly securityOptions?: readonly string[] | undefined;
  readonly oomScoreAdj?: number | undefined;
  /** Raised or lowered limits; undefined or empty: the daemon's own are inherited. */
  readonly ulimits?: readonly { readonly name: string; readonly soft: number; readonly hard: number }[] | undefined;
};

/** Builds the object that `Runtime.exec` takes. */
export async function buildProcess(input: ProcessInput): Promise<Record<string, unknown>> {
  const { user, ulimits, oomScoreAdj } = input;
  const profile = await resolveAppArmor(input.securityOptions ?? [], input.privileged === true);
  const [program = ""] = input.args;
  if (program === "") throw new EngineError("invalid_argument", "No command specified");
  return {
    terminal: input.tty,
    user: { uid: user.uid, gid: user.gid, additionalGids: user.additionalGids },
    args: input.args,
    env: input.env,
    cwd: input.cwd || "/",
    capabilities: capabilitySets(resolveCapabilities(input), user.uid),
    noNewPrivileges: wantsNoNewPrivileges(input.securityOptions ?? []),
    ...(profile === undefined ? {} : { apparmorProfile: profile }),
    ...(oomScoreAdj === undefined ? {} : { oomScoreAdj: permittedScore(oomScoreAdj) }),
    ...(ulimits === undefined || ulimits.length === 0 ? {} : { rlimits: ulimits.map(rlimit) }),
  };
}

/** As execve(2) would have it: root holds what is in the bounding set, others hold nothing yet. */
function capabilitySets(capabilities: readonly string[], uid: number): Record<string, readonly string[]> {
  if (uid !== 0) return { bounding: capabilities };
  return { bounding: capabilities, effective: capabilities, permitted: capabilities };
}

function rlimit(limit: { readonly name: string; readonly soft: number; readonly hard: number }): object {
  return { type: `RLIMIT_${limit.name.toUpperCase()}`, soft: unlimited(limit.soft), hard: unlimited(limit.hard) };
}

/** Node has it; TypeScript's library does not tell yet. */
const { rawJSON } = JSON as typeof JSON & { readonly rawJSON: (text: string) => object };

/** -1 is RLIM_INFINITY, 64 bits that a number of ours cannot carry. */
const unlimited = (value: number): unknown => (value < 0 ? rawJSON("18446744073709551615") : value);

function permittedScore(score: number): number {
  if (score < -1000 || score > 1000)
    throw new EngineError("invalid_argument", `Invalid value ${score}, range for oom score adj is [-1000, 1000]`);
  const own = Number(readFileSync("/proc/self/oom_score_adj", "utf8"));
  if (score >= own || heldCapabilities().includes("CAP_SYS_RESOURCE")) return score;
  throw new EngineError(
    "unsupported",
    `OOM score ${score} is lower than the daemon's own ${own}, and the daemon lacks CAP_SYS_RESOURCE: ask for ${own} or more`,
  );
}
