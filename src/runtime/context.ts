/**
 * What every verb of the runtime needs: programs, places, cgroup mounts and the watch over exits.
 */
import { rm } from "node:fs/promises";
import { EngineError } from "../base/errors.ts";
import { isAlive, type ProcessIdentity } from "../host/kernel-process.ts";
import type { CgroupMounts } from "./cgroup.ts";
import type { ExitWatch } from "./exit-watch.ts";
import { bundleOf, type Layout, type ProcessDirectory } from "./layout.ts";
import type { OciProgram } from "./oci-program.ts";
import { findRecord, type ProcessRecord } from "./process-record.ts";

export type RuntimeContext = {
  readonly layout: Layout;
  readonly oci: OciProgram;
  readonly conmon: string;
  readonly cgroups: CgroupMounts;
  readonly exits: ExitWatch;
  /** Milliseconds that a reader of output may stand still with a full buffer. */
  readonly stallLimit: number;
  /** Ways to let go of what is open, when the runtime is closed; what it was about goes on without us. */
  readonly open: Set<() => void>;
  /** Of containers that this process made or asked about; the first may still be on their way to the disk. */
  readonly records: Map<string, Promise<ProcessRecord>>;
};

/** The record of a container's bundle; undefined when there is none. */
export async function findRecordOf(context: RuntimeContext, id: string): Promise<ProcessRecord | undefined> {
  const known = context.records.get(id);
  if (known !== undefined) return known;
  const record = await findRecord(bundleOf(context.layout, id));
  // Without a process it may be half-made by another: ask again next time.
  if (record?.process !== undefined) context.records.set(id, Promise.resolve(record));
  return record;
}

/** As {@link findRecordOf}, but throws not_found. */
export async function recordOf(context: RuntimeContext, id: string): Promise<ProcessRecord> {
  const record = await findRecordOf(context, id);
  if (record === undefined) throw new EngineError("not_found", `no container ${id} at the runtime: create it first`);
  return record;
}

/** The first process, which runs. Throws not_found when it is gone. */
export async function runningProcess(context: RuntimeContext, id: string): Promise<ProcessIdentity> {
  const { process } = await recordOf(context, id);
  if (process === undefined || !(await isAlive(process)))
    throw new EngineError("not_found", `container ${id} is not running`);
  return process;
}

/** The cgroup of a container that runs. Throws not_found. */
export async function runningCgroup(context: RuntimeContext, id: string): Promise<string> {
  await runningProcess(context, id);
  const { cgroup } = await recordOf(context, id);
  if (cgroup === undefined) throw new EngineError("not_found", `container ${id} has no cgroup`);
  return cgroup;
}

export const removeDirectory = (directory: ProcessDirectory): Promise<void> =>
  rm(directory.path, { recursive: true, force: true });
