/** `GET /containers/{id}/stats`, in dockerd's shape. */
import type { Container } from "../../container/container.ts";
import type { ContainerStats } from "../../runtime/runtime.ts";
import { never } from "./human-duration.ts";

/** One reading, and when it was taken. */
export type Reading = { readonly at: string; readonly stats: ContainerStats };

const throttling = { periods: 0, throttled_periods: 0, throttled_time: 0 };

function cpuJson(stats: ContainerStats | undefined): object {
  if (stats === undefined)
    return { cpu_usage: { total_usage: 0, usage_in_kernelmode: 0, usage_in_usermode: 0 }, throttling_data: throttling };
  return {
    cpu_usage: {
      total_usage: stats.cpuTotal,
      usage_in_kernelmode: stats.cpuSystem,
      usage_in_usermode: stats.cpuUser,
    },
    system_cpu_usage: stats.systemCpu,
    online_cpus: stats.onlineCpus,
    throttling_data: throttling,
  };
}

function blkioJson(stats: ContainerStats | undefined): object {
  const none = stats === undefined ? null : [];
  const bytes = stats?.blkio.map(({ major, minor, op, value }) => ({ major, minor, op, value })) ?? null;
  return {
    io_service_bytes_recursive: bytes,
    io_serviced_recursive: none,
    io_queue_recursive: none,
    io_service_time_recursive: none,
    io_wait_time_recursive: none,
    io_merged_recursive: none,
    io_time_recursive: none,
    sectors_recursive: none,
  };
}

function memoryJson(stats: ContainerStats | undefined): object {
  if (stats === undefined) return {};
  return { usage: stats.memoryUsage, stats: stats.memoryStats, limit: stats.memoryLimit };
}

/** One message; without a reading (the container does not run) everything is zero, with Go's zero time. */
export function statsJson(container: Container, reading?: Reading, before?: Reading): object {
  const stats = reading?.stats;
  return {
    read: reading?.at ?? never,
    preread: before?.at ?? never,
    pids_stats: stats === undefined ? {} : { current: stats.pids },
    blkio_stats: blkioJson(stats),
    num_procs: 0,
    storage_stats: {},
    cpu_stats: cpuJson(stats),
    precpu_stats: cpuJson(before?.stats),
    memory_stats: memoryJson(stats),
    name: `/${container.name}`,
    id: container.id,
  };
}
