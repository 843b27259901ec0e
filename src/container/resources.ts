/** Limits of a host config in the runtime's words; what is 0, empty or null asks for nothing. */
import type { ResourceUpdate } from "../runtime/runtime.ts";
import type { HostConfig } from "./container.ts";

const asked = (value: number | null | undefined): number | undefined => (value ? value : undefined);

export function resourcesOf(host: HostConfig): ResourceUpdate {
  return {
    memory: asked(host.Memory),
    memorySwap: asked(host.MemorySwap),
    memoryReservation: asked(host.MemoryReservation),
    nanoCpus: asked(host.NanoCpus),
    cpuShares: asked(host.CpuShares),
    cpuPeriod: asked(host.CpuPeriod),
    cpuQuota: asked(host.CpuQuota),
    cpusetCpus: host.CpusetCpus || undefined,
    cpusetMems: host.CpusetMems || undefined,
    pids: asked(host.PidsLimit),
  };
}
