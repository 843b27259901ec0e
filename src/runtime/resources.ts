/**
 * Limits of a container's cgroup, as the OCI spec writes them; the same words at create and at update.
 */
import { existsSync } from "node:fs";
import type { ResourceUpdate } from "./runtime.ts";

type Plain = Record<string, unknown>;

const nanosPerCpu = 1e9;
const defaultPeriod = 100_000;

/** Docker's rule for a new container: as much swap as memory again, unless it is said. */
export function withDefaultSwap(limits: ResourceUpdate): ResourceUpdate {
  const { memory, memorySwap } = limits;
  return memory === undefined || memory <= 0 || memorySwap ? limits : { ...limits, memorySwap: memory * 2 };
}

/** `linux.resources` without devices. Members that are undefined say nothing. */
export function toOciResources(limits: ResourceUpdate): Plain {
  const { memory, memorySwap, memoryReservation, pids, blkioWeight } = limits;
  const cpu = cpuOf(limits);
  return compact({
    memory: compact({
      limit: memory,
      reservation: memoryReservation,
      swap: memorySwap && swapIsCounted() ? memorySwap : undefined,
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

/** False on cgroup v1 kernels without swap accounting, where asking for it would fail. */
function swapIsCounted(): boolean {
  return (
    existsSync("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes") || existsSync("/sys/fs/cgroup/cgroup.controllers")
  );
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
