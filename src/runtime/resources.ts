/**
 * Limits of a container's cgroup, as the OCI spec writes them; the same words at create and at update.
 */
import type { ResourceUpdate } from "./runtime.ts";

type Plain = Record<string, unknown>;

const nanosPerCpu = 1e9;
const defaultPeriod = 100_000;

/** `linux.resources` without devices. Members that are undefined say nothing. `swap` false: this kernel counts no swap. */
export function toOciResources(limits: ResourceUpdate, swap: boolean): Plain {
  const { memory, memorySwap, memoryReservation, pids, blkioWeight } = limits;
  const cpu = cpuOf(limits);
  return compact({
    memory: compact({
      limit: memory,
      reservation: memoryReservation,
      swap: swap ? swapOf(memory, memorySwap) : undefined,
    }),
    cpu: compact({
      shares: limits.cpuShares,
      quota: cpu.quota,
      period: cpu.period,
      cpus: limits.cpusetCpus,
      mems: limits.cpusetMems,
    }),
    pids: pids === undefined ? undefined : { limit: pids },
    blockIO: compact({ weight: blkioWeight }),
  });
}

/** Docker's rule: as much swap as memory again, unless it is said; -1 is without limit. */
function swapOf(memory: number | undefined, swap: number | undefined): number | undefined {
  if (swap !== undefined && swap !== 0) return swap;
  return memory === undefined || memory <= 0 ? undefined : memory * 2;
}

function cpuOf(limits: ResourceUpdate): { readonly quota?: number | undefined; readonly period?: number | undefined } {
  const { nanoCpus } = limits;
  if (nanoCpus === undefined || nanoCpus === 0) return { quota: limits.cpuQuota, period: limits.cpuPeriod };
  return { quota: Math.round((nanoCpus / nanosPerCpu) * defaultPeriod), period: defaultPeriod };
}

/** Without members that are undefined; undefined itself when nothing is left of a nested one. */
function compact(members: Plain): Plain {
  return Object.fromEntries(
    Object.entries(members).filter(
      ([, value]) => value !== undefined && !(typeof value === "object" && Object.keys(value ?? {}).length === 0),
    ),
  );
}
