/**
 * `update`: limits and restart policy of a container, applied to the running one and kept for the next start. Zero and
 * empty leave a setting as it is, as clients send every member.
 */
import { EngineError } from "../base/errors.ts";
import { checkResources } from "./check-config.ts";
import type { HostConfig } from "./container.ts";
import { type Context, emit } from "./context.ts";
import type { Entry } from "./entry.ts";
import { recordStatement } from "./record.ts";
import { resourcesOf } from "./resources.ts";

const limits = [
  "Memory",
  "MemorySwap",
  "MemoryReservation",
  "NanoCpus",
  "CpuShares",
  "CpuPeriod",
  "CpuQuota",
  "CpusetCpus",
  "CpusetMems",
  "PidsLimit",
] as const;

const given = (value: unknown): boolean => value !== undefined && value !== null && value !== 0 && value !== "";

function refuseOthers(changes: HostConfig): void {
  const known: readonly string[] = [...limits, "RestartPolicy"];
  for (const [key, value] of Object.entries(changes)) {
    const empty =
      !given(value) || value === false || (typeof value === "object" && Object.keys(value ?? {}).length === 0);
    if (!known.includes(key) && !empty && !(key === "MemorySwappiness" && value === -1))
      throw new EngineError("unsupported", `${key} of a container cannot be updated: leave it out`);
  }
}

/** The host config after `changes`. Throws invalid_argument, conflict or unsupported. */
export function mergeUpdate(host: HostConfig, changes: HostConfig): HostConfig {
  refuseOthers(changes);
  const changed = Object.fromEntries(limits.filter((key) => given(changes[key])).map((key) => [key, changes[key]]));
  const policy = given(changes.RestartPolicy?.Name) ? { RestartPolicy: changes.RestartPolicy } : {};
  const merged = { ...host, ...changed, ...policy } as HostConfig;
  if (host.AutoRemove === true && given(changes.RestartPolicy?.Name) && changes.RestartPolicy?.Name !== "no")
    throw new EngineError(
      "conflict",
      "Restart policy cannot be updated because AutoRemove is enabled for the container",
    );
  const swap = host.MemorySwap ?? 0;
  if (swap > 0 && (merged.Memory ?? 0) > swap && !given(changes.MemorySwap))
    throw new EngineError(
      "conflict",
      "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
    );
  checkResources(merged);
  return merged;
}

/** Returns warnings. */
export function updateContainer(context: Context, entry: Entry, changes: HostConfig): Promise<readonly string[]> {
  return entry.lock.run(async () => {
    const record = { ...entry.record, hostConfig: mergeUpdate(entry.record.hostConfig, changes) };
    const touched = Object.fromEntries(limits.filter((key) => given(changes[key])).map((key) => [key, changes[key]]));
    if (entry.run !== undefined && Object.keys(touched).length > 0)
      await context.runtime.update(entry.id, resourcesOf(touched as HostConfig));
    await context.database.transact([recordStatement(record)]);
    entry.record = record;
    emit(context, entry, "update");
    return [];
  });
}
