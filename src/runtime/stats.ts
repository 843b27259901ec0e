/**
 * What a container uses, from its cgroup's files; version 1 and 2 have different names and units for the same things.
 * Times are nanoseconds, sizes bytes.
 */
import { readFile } from "node:fs/promises";
import { cpus, totalmem } from "node:os";
import { type CgroupMounts, controllerDirectory, isVersion2, parseTable, readCgroupFile } from "./cgroup.ts";
import type { ContainerStats } from "./runtime.ts";

/** Clock ticks are hundredths of a second on every architecture that Linux lets user space see (USER_HZ). */
const nanosPerTick = 1e7;
const nanosPerMicro = 1000;

type Cpu = Pick<ContainerStats, "cpuTotal" | "cpuUser" | "cpuSystem">;
type Memory = Pick<ContainerStats, "memoryUsage" | "memoryLimit" | "memoryStats">;
type Blkio = ContainerStats["blkio"];

/** Reads everything at once; a controller that is not there counts as nothing. */
export async function readStats(mounts: CgroupMounts, cgroup: string): Promise<ContainerStats> {
  const read = (controller: string, name: string): Promise<string | undefined> =>
    readCgroupFile(controllerDirectory(mounts, cgroup, controller), name);
  const second = isVersion2(mounts);
  const [cpu, memory, blkio, pids, systemCpu] = await Promise.all([
    second ? cpuOfVersion2(read) : cpuOfVersion1(read),
    second ? memoryOfVersion2(read) : memoryOfVersion1(read),
    second ? blkioOfVersion2(read) : blkioOfVersion1(read),
    read("pids", "pids.current"),
    systemCpuTime(),
  ]);
  return { ...cpu, ...memory, blkio, pids: Number(pids ?? 0), systemCpu, onlineCpus: cpus().length };
}

type Read = (controller: string, name: string) => Promise<string | undefined>;

async function cpuOfVersion1(read: Read): Promise<Cpu> {
  const [usage, split] = await Promise.all([read("cpuacct", "cpuacct.usage"), read("cpuacct", "cpuacct.stat")]);
  const { user = 0, system = 0 } = parseTable(split);
  return { cpuTotal: Number(usage ?? 0), cpuUser: user * nanosPerTick, cpuSystem: system * nanosPerTick };
}

async function cpuOfVersion2(read: Read): Promise<Cpu> {
  const { usage_usec = 0, user_usec = 0, system_usec = 0 } = parseTable(await read("cpu", "cpu.stat"));
  return {
    cpuTotal: usage_usec * nanosPerMicro,
    cpuUser: user_usec * nanosPerMicro,
    cpuSystem: system_usec * nanosPerMicro,
  };
}

async function memoryOfVersion1(read: Read): Promise<Memory> {
  const names = ["memory.usage_in_bytes", "memory.limit_in_bytes", "memory.stat"];
  const [usage, limit, stat] = await Promise.all(names.map((name) => read("memory", name)));
  return { memoryUsage: Number(usage ?? 0), memoryLimit: limitOf(limit), memoryStats: parseTable(stat) };
}

async function memoryOfVersion2(read: Read): Promise<Memory> {
  const names = ["memory.current", "memory.max", "memory.stat"];
  const [usage, limit, stat] = await Promise.all(names.map((name) => read("memory", name)));
  return { memoryUsage: Number(usage ?? 0), memoryLimit: limitOf(limit), memoryStats: parseTable(stat) };
}

/** Without a limit, the machine's memory is the limit. */
function limitOf(text: string | undefined): number {
  const limit = Number(text ?? Number.NaN);
  return Number.isNaN(limit) ? totalmem() : Math.min(limit, totalmem());
}

/** `8:0 Read 4096` lines; the totals are left to the reader. */
async function blkioOfVersion1(read: Read): Promise<Blkio> {
  const text =
    (await read("blkio", "blkio.throttle.io_service_bytes_recursive")) ??
    (await read("blkio", "blkio.throttle.io_service_bytes"));
  return (text ?? "").split("\n").flatMap((line) => {
    const match = /^(\d+):(\d+) (\w+) (\d+)$/.exec(line);
    if (match === null) return [];
    const [, major, minor, op = "", value] = match;
    return [{ major: Number(major), minor: Number(minor), op: op.toLowerCase(), value: Number(value) }];
  });
}

/** `8:0 rbytes=4096 wbytes=0 rios=...` lines. */
async function blkioOfVersion2(read: Read): Promise<Blkio> {
  const ops: Readonly<Record<string, string>> = { rbytes: "read", wbytes: "write" };
  return ((await read("io", "io.stat")) ?? "").split("\n").flatMap((line) => {
    const [device = "", ...values] = line.split(" ");
    const [major, minor] = device.split(":").map(Number);
    return values.flatMap((each) => {
      const [key = "", value] = each.split("=");
      const op = ops[key];
      return op === undefined ? [] : [{ major: major ?? 0, minor: minor ?? 0, op, value: Number(value) }];
    });
  });
}

/** Time of all CPUs since boot, in every state that /proc/stat counts and dockerd adds up. */
async function systemCpuTime(): Promise<number> {
  const [first = ""] = (await readFile("/proc/stat", "utf8")).split("\n");
  const ticks = first.split(/\s+/).slice(1, 8).map(Number);
  return ticks.reduce((sum, each) => sum + each, 0) * nanosPerTick;
}
