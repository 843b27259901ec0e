/**
 * Devices of a container: Docker's cgroup defaults, devices that a request names, and every device of the host for a
 * privileged container.
 */
import type { Stats } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { EngineError, systemCode } from "../base/errors.ts";

/** A device as `docker run --device` asks for it. */
export type DeviceRequest = {
  readonly hostPath: string;
  readonly containerPath: string;
  /** Letters of `rwm`. */
  readonly permissions: string;
};

export type OciDevice = {
  readonly path: string;
  readonly type: "c" | "b";
  readonly major: number;
  readonly minor: number;
  readonly fileMode: number;
  readonly uid: number;
  readonly gid: number;
};

export type DeviceRule = {
  readonly allow: boolean;
  readonly type?: string;
  readonly major?: number;
  readonly minor?: number;
  readonly access: string;
};

export type DeviceSet = { readonly devices: readonly OciDevice[]; readonly rules: readonly DeviceRule[] };

const allowed: readonly (readonly [number, number])[] = [
  [1, 5],
  [1, 3],
  [1, 9],
  [1, 8],
  [5, 0],
  [5, 1],
];

/** Nothing but null, zero, full, random, urandom, tty and console; the runtime adds terminals. */
export const defaultDeviceRules: readonly DeviceRule[] = [
  { allow: false, access: "rwm" },
  ...allowed.map(([major, minor]) => ({ allow: true, type: "c", major, minor, access: "rwm" })),
  { allow: false, type: "c", major: 10, minor: 229, access: "rwm" },
];

/** Directories of /dev that belong to one container or session, never to be copied into another. */
const skipped = new Set(["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"]);

/** What `linux.devices` and `linux.resources.devices` say. Throws in Docker's words for a path that is no device. */
export async function resolveDevices(privileged: boolean, requests: readonly DeviceRequest[]): Promise<DeviceSet> {
  if (privileged) return { devices: await walk("/dev", "/dev"), rules: [{ allow: true, access: "rwm" }] };
  const devices: OciDevice[] = [];
  const rules: DeviceRule[] = [...defaultDeviceRules];
  for (const request of requests) {
    const found = await requested(request);
    devices.push(...found);
    rules.push(
      ...found.map(({ type, major, minor }) => ({ allow: true, type, major, minor, access: request.permissions })),
    );
  }
  return { devices, rules };
}

async function requested(request: DeviceRequest): Promise<readonly OciDevice[]> {
  if (!/^[rwm]{1,3}$/.test(request.permissions))
    throw new EngineError("invalid_argument", `bad mode specified: ${request.permissions}`);
  const info = await stat(request.hostPath).catch((error: unknown) => {
    const missing = systemCode(error) === "ENOENT";
    throw notGathered(request.hostPath, missing ? "no such file or directory" : String(systemCode(error)), error);
  });
  const found = info.isDirectory()
    ? await walk(request.hostPath, request.containerPath)
    : [describe(info, request.containerPath)].filter((device) => device !== undefined);
  if (found.length === 0) throw notGathered(request.hostPath, "not a device node", undefined);
  return found;
}

function notGathered(path: string, reason: string, cause: unknown): EngineError {
  const message = `error gathering device information while adding custom device ${JSON.stringify(path)}: ${reason}`;
  return new EngineError("invalid_argument", message, { cause });
}

async function walk(directory: string, shown: string): Promise<OciDevice[]> {
  const found: OciDevice[] = [];
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    const inside = join(shown, entry.name);
    if (entry.isDirectory()) {
      if (!skipped.has(entry.name)) found.push(...(await walk(path, inside)));
    } else if ((entry.isCharacterDevice() || entry.isBlockDevice()) && inside !== "/dev/console") {
      const device = await stat(path).then(
        (info) => describe(info, inside),
        () => undefined,
      );
      if (device !== undefined) found.push(device);
    }
  }
  return found;
}

function describe(info: Stats, path: string): OciDevice | undefined {
  if (!info.isCharacterDevice() && !info.isBlockDevice()) return undefined;
  const { major, minor } = numbersOf(info.rdev);
  const type = info.isBlockDevice() ? "b" : "c";
  return { path, type, major, minor, fileMode: info.mode & 0o7777, uid: info.uid, gid: info.gid };
}

/** Linux' dev_t, as stat(2) gives it. */
function numbersOf(device: number): { readonly major: number; readonly minor: number } {
  const value = BigInt(device);
  const major = ((value >> 8n) & 0xfffn) | ((value >> 32n) & 0xfffff000n);
  const minor = (value & 0xffn) | ((value >> 12n) & 0xffffff00n);
  return { major: Number(major), minor: Number(minor) };
}
