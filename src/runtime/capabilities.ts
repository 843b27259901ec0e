/**
 * Capabilities of a container by Docker's rules: fourteen by default, `CapAdd` and `CapDrop` over them, all of them when
 * privileged. What the daemon itself does not hold is left out, because the runtime could not give it.
 */
import { readFileSync } from "node:fs";
import { EngineError } from "../base/errors.ts";

/** Names by bit number (linux/capability.h). */
const names =
  "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
    .split(" ")
    .map((name) => `CAP_${name}`);

const defaults =
  "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE"
    .split(" ")
    .map((name) => `CAP_${name}`);

const all = "ALL";

let held: readonly string[] | undefined;

/** What this process may hand on: its permitted set, as names. Read once. */
export function heldCapabilities(): readonly string[] {
  if (held === undefined) {
    const match = /^CapPrm:\s*([0-9a-f]+)$/m.exec(readFileSync("/proc/self/status", "utf8"));
    const bits = BigInt(`0x${match?.[1] ?? "0"}`);
    held = names.filter((_, bit) => (bits >> BigInt(bit)) & 1n);
  }
  return held;
}

export type CapabilityRequest = {
  readonly privileged?: boolean | undefined;
  readonly capAdd?: readonly string[] | undefined;
  readonly capDrop?: readonly string[] | undefined;
};

/** The bounding set of a container. Throws invalid_argument for a name that Linux does not know, in Docker's words. */
export function resolveCapabilities(request: CapabilityRequest): string[] {
  const adds = normalize(request.capAdd ?? [], "CapAdd");
  const drops = normalize(request.capDrop ?? [], "CapDrop");
  const wanted = request.privileged === true ? names : tweak(adds, drops);
  const available = new Set(heldCapabilities());
  return [...new Set(wanted)].filter((name) => available.has(name));
}

function tweak(adds: readonly string[], drops: readonly string[]): readonly string[] {
  if (adds.includes(all)) return names.filter((name) => !drops.includes(name));
  if (drops.includes(all)) return adds;
  return [...defaults.filter((name) => !drops.includes(name)), ...adds];
}

function normalize(list: readonly string[], member: string): string[] {
  return list.map((given) => {
    const upper = given.toUpperCase();
    if (upper === all || upper === "CAP_ALL") return all;
    const name = upper.startsWith("CAP_") ? upper : `CAP_${upper}`;
    if (!names.includes(name))
      throw new EngineError("invalid_argument", `invalid ${member}: unknown capability: ${JSON.stringify(name)}`);
    return name;
  });
}
