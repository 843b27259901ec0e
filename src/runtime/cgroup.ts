/**
 * Where a container's cgroup is in each hierarchy: version 1 has one per controller, version 2 one for all, and a
 * hybrid host has both. Paths are what the OCI runtime makes of an absolute `cgroupsPath`: hierarchy root + path.
 */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { systemCode } from "../base/errors.ts";

export type CgroupMounts = {
  /** Mount point of cgroup2; undefined without. */
  readonly unified: string | undefined;
  /** Version 1: controller (or `name=x`) to mount point. Empty on a pure version 2 host. */
  readonly controllers: ReadonlyMap<string, string>;
};

/** Reads the mounts of this process' namespace. */
export async function readCgroupMounts(): Promise<CgroupMounts> {
  const table = await readFile("/proc/self/mountinfo", "utf8");
  const controllers = new Map<string, string>();
  let unified: string | undefined;
  for (const line of table.split("\n")) {
    const [head = "", tail = ""] = line.split(" - ");
    const mountPoint = head.split(" ")[4];
    const [type, , options = ""] = tail.split(" ");
    if (mountPoint === undefined) continue;
    if (type === "cgroup2") unified ??= mountPoint;
    if (type === "cgroup")
      for (const name of options.split(",")) if (!controllers.has(name)) controllers.set(name, mountPoint);
  }
  return { unified, controllers };
}

/** The directory that holds a controller's files for a cgroup. */
export function controllerDirectory(mounts: CgroupMounts, cgroup: string, controller: string): string | undefined {
  const root = mounts.controllers.get(controller) ?? (mounts.controllers.size > 0 ? undefined : mounts.unified);
  return root === undefined ? undefined : join(root, cgroup);
}

export const isVersion2 = (mounts: CgroupMounts): boolean =>
  !mounts.controllers.has("memory") && mounts.unified !== undefined;

/** A file of a cgroup; undefined when cgroup or controller is not there. */
export async function readCgroupFile(directory: string | undefined, name: string): Promise<string | undefined> {
  if (directory === undefined) return undefined;
  return readFile(join(directory, name), "utf8").catch((error: unknown) => {
    if (["ENOENT", "ENODEV", "EOPNOTSUPP"].includes(systemCode(error) ?? "")) return undefined;
    throw error;
  });
}

/** `key value` lines as a table. */
export function parseTable(text: string | undefined): Record<string, number> {
  const lines = (text ?? "").split("\n").map((line) => line.split(" "));
  return Object.fromEntries(
    lines.filter((parts) => parts.length === 2).map(([key = "", value]) => [key, Number(value)]),
  );
}

/** Every process of a cgroup and those below it. */
export async function processesOf(mounts: CgroupMounts, cgroup: string): Promise<number[]> {
  const directory = controllerDirectory(mounts, cgroup, "pids") ?? controllerDirectory(mounts, cgroup, "memory");
  return directory === undefined ? [] : [...new Set(await processesBelow(directory))];
}

async function processesBelow(directory: string): Promise<number[]> {
  const text = (await readCgroupFile(directory, "cgroup.procs")) ?? "";
  const own = text
    .split("\n")
    .filter((line) => line !== "")
    .map(Number);
  const entries = await readdir(directory, { withFileTypes: true }).catch(() => []);
  const below = entries
    .filter((entry) => entry.isDirectory())
    .map((entry) => processesBelow(join(directory, entry.name)));
  return [...own, ...(await Promise.all(below)).flat()];
}

/** True when the kernel killed something in this cgroup for lack of memory. */
export async function hadOutOfMemoryKill(mounts: CgroupMounts, cgroup: string): Promise<boolean> {
  const directory = controllerDirectory(mounts, cgroup, "memory");
  const file = isVersion2(mounts) ? "memory.events" : "memory.oom_control";
  return (parseTable(await readCgroupFile(directory, file)).oom_kill ?? 0) > 0;
}
