/**
 * Mounts what a volume's options name, by mount(2), in a worker: a disk may take its time. The kernel's refusal
 * comes out in Docker's words, without a password that the options hold.
 */
import { getSystemErrorMessage } from "node:util";
import { EngineError, errorMessage } from "../base/errors.ts";
import type { MountStep } from "../base/mount.ts";
import { mountAll } from "../host/mount.ts";
import { MS, mount } from "../host/mount-calls.ts";
import { mountFlagsOf } from "../host/mount-options.ts";
import type { VolumeMount } from "./mounting.ts";
import { withoutSecrets } from "./secrets.ts";

export type MountArgument = { readonly mount: VolumeMount; readonly target: string };

export function mountVolumeTask({ mount, target }: MountArgument): void {
  try {
    mountAll([stepOf(mount)], target);
  } catch (error) {
    throw new EngineError("internal", `failed to mount local volume: ${failureOf({ mount, target }, error)}`);
  }
}

/** Gives what is mounted other options. Throws conflict where they cannot be kept now: a size that is less than what it holds. */
export function remountVolumeTask({ mount: { type, device, o }, target }: MountArgument): void {
  const { flags, data } = mountFlagsOf(o);
  try {
    mount({ source: device, target, type, flags: flags | MS.REMOUNT, data });
  } catch (error) {
    throw new EngineError("conflict", `its new options cannot be kept now: ${reasonOf(error)}`, { cause: error });
  }
}

/** `o=bind` shows a directory of the host; all else is a filesystem. */
function stepOf({ type, device, o }: VolumeMount): MountStep {
  const words = o.split(",").filter((word) => word !== "");
  const recursive = words.includes("rbind");
  if (recursive || words.includes("bind"))
    return { kind: "bind", source: device, readonly: words.includes("ro"), recursive };
  return { kind: "filesystem", type, source: device, options: words };
}

/** As Go's mount package words it (moby/sys/mount): `mount SOURCE:TARGET, flags: 0x1000, data: ...: reason`. */
function failureOf({ mount: { device, o }, target }: MountArgument, error: unknown): string {
  const { flags, data } = mountFlagsOf(o);
  const what = `mount ${device}:${target}${flags === 0 ? "" : `, flags: 0x${flags.toString(16)}`}`;
  return withoutSecrets(`${what}${data === "" ? "" : `, data: ${data}`}: ${reasonOf(error)}`, o);
}

function reasonOf(error: unknown): string {
  const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
  const number = typeof cause === "object" && cause !== null && "errno" in cause ? Number(cause.errno) : Number.NaN;
  return Number.isInteger(number) ? getSystemErrorMessage(-Math.abs(number)) : errorMessage(cause);
}
