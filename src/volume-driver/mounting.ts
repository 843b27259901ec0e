/**
 * Mounting what a volume's options name. The kernel does most of it; types that need a program (network and FUSE
 * filesystems: `mount.nfs`, `mount.cifs`, `mount.fuse`, ...) go through mount(8) where that program is installed, as a
 * child with a deadline, since its server may never answer. Docker calls mount(2) only.
 */
import { lookup } from "node:dns/promises";
import { access, constants } from "node:fs/promises";
import { isIP } from "node:net";
import { EngineError, isError } from "../base/errors.ts";
import type { Pool } from "../host/pool.ts";
import { runProgram } from "../host/program.ts";
import { withoutSecrets } from "./secrets.ts";

/** What is mounted on a volume's directory for as long as it is used, in the words of mount(8). */
export type VolumeMount = { readonly type: string; readonly device: string; readonly o: string };

const tasks = new URL("./mount-task.ts", import.meta.url);
/** Milliseconds for a program that mounts. */
const deadline = 60_000;
const helperFolders = ["/sbin", "/usr/sbin", "/usr/local/sbin"];
/** A type by which mount(8) finds a program: one name, with a subtype behind a dot. */
const typePattern = /^[a-z0-9][a-z0-9_+-]*(\.[A-Za-z0-9_.+-]+)?$/;

/** Throws an error in Docker's words, without passwords. On failure nothing is mounted. */
export async function mountVolume(pool: Pool, mount: VolumeMount, target: string): Promise<void> {
  if (await hasHelper(mount.type)) return mountByProgram(mount, target);
  await pool.run<object, void>(tasks, "mountVolumeTask", { mount: await resolved(mount), target });
}

/** `fuse.sshfs` is mounted by `mount.fuse`. */
async function hasHelper(type: string): Promise<boolean> {
  if (!typePattern.test(type)) return false;
  const names = new Set([type, type.split(".")[0] ?? type]);
  for (const folder of helperFolders)
    for (const name of names)
      if (
        await access(`${folder}/mount.${name}`, constants.X_OK).then(
          () => true,
          () => false,
        )
      )
        return true;
  return false;
}

async function mountByProgram(mount: VolumeMount, target: string): Promise<void> {
  const { type, o } = mount;
  const device =
    type.startsWith("nfs") && mount.device.startsWith(":") ? `${addressOf(o)}${mount.device}` : mount.device;
  const options = o === "" ? [] : ["-o", o];
  try {
    const { code, stderr } = await runProgram("mount", ["-t", type, ...options, "--", device, target], { deadline });
    if (code === 0) return;
    const said = stderr.trim().replace(/\s*\n\s*/g, "; ") || `mount ended with ${code}`;
    throw new EngineError("internal", `failed to mount local volume: ${withoutSecrets(said, o)}`);
  } catch (error) {
    if (!isError(error, "deadline_exceeded")) throw error;
    const words = `failed to mount local volume: ${withoutSecrets(device, o)} did not answer within ${deadline / 1000} s`;
    throw new EngineError("deadline_exceeded", words, { cause: error });
  }
}

const addressOf = (o: string): string => /(?:^|,)addr=([^,]*)/.exec(o)?.[1] ?? "";

/** The kernel wants addresses of servers, not names (moby local_unix.go resolves the same two). */
async function resolved(mount: VolumeMount): Promise<VolumeMount> {
  const { type, device, o } = mount;
  if (type !== "nfs" && type !== "cifs") return mount;
  const named = addressOf(o);
  if (named !== "") {
    if (isIP(named) === 4) return mount;
    return { ...mount, o: o.replace(`addr=${named}`, `addr=${await addressFor(named)}`) };
  }
  const host = type === "cifs" ? /^\/\/([^/]+)/.exec(device)?.[1] : undefined;
  if (host === undefined) return mount;
  return { ...mount, device: device.replace(host, await addressFor(host)) };
}

async function addressFor(host: string): Promise<string> {
  try {
    return (await lookup(host)).address;
  } catch (cause) {
    throw new EngineError("unavailable", `error resolving passed in network volume address: ${host} is not known`, {
      cause,
    });
  }
}
