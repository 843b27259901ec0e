/**
 * `remove`: the OCI runtime deletes its state and the cgroup (killing what still runs), conmon ends, and the files go.
 * Also the one that ends a container whose conmon was killed. Both may be repeated.
 */

import { existsSync } from "node:fs";
import { rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { EngineError, errorMessage } from "../base/errors.ts";
import { identify, isAlive, type ProcessIdentity, signalProcess, waitUntilGone } from "../host/kernel-process.ts";
import { processesOf } from "./cgroup.ts";
import { removeConmonCgroup } from "./conmon-cgroup.ts";
import { findRecordOf, type RuntimeContext, removeDirectory } from "./context.ts";
import { bundleOf, exitFileOf, stateDirectoryOf } from "./layout.ts";
import { runOciProgram } from "./oci-program.ts";
import type { ProcessRecord } from "./process-record.ts";

/** conmon ends by itself, within milliseconds of its container. */
const conmonDeadline = 5_000;
const killDeadline = 10_000;
/** What Docker shows for a container whose keeper was lost: 128 + SIGKILL. */
const lostExitCode = 137;
const sigkill = 9;

export async function removeContainer(context: RuntimeContext, id: string): Promise<void> {
  const bundle = bundleOf(context.layout, id);
  const record = await findRecordOf(context, id);
  if (existsSync(stateDirectoryOf(context.layout, id))) await deleteState(context, id);
  await endConmon(record?.conmon);
  await context.exits.forget(id);
  context.records.delete(id);
  await Promise.all([
    removeConmonCgroup(context.cgroups, id),
    removeDirectory(bundle),
    rm(exitFileOf(context.layout, id), { force: true }),
  ]);
}

/** The runtime's own delete: state, cgroup, and every process that is left. */
async function deleteState(context: RuntimeContext, id: string): Promise<void> {
  try {
    await runOciProgram(context.oci, "delete", "--force", id);
  } catch (error) {
    if (existsSync(stateDirectoryOf(context.layout, id)))
      throw new EngineError("internal", `container ${id} cannot be taken away: ${errorMessage(error)}`, {
        cause: error,
      });
  }
}

async function endConmon(conmon: ProcessIdentity | undefined): Promise<void> {
  if (conmon === undefined || (await waitUntilGone(conmon, conmonDeadline))) return;
  await signalProcess(conmon, sigkill);
  await waitUntilGone(conmon, killDeadline);
}

/**
 * For a container without an exit file: when its conmon is gone too, nobody will ever tell how it ended. Its processes
 * are killed, as a container without stdio is of no use, and the exit file says 137.
 */
export async function settleLost(context: RuntimeContext, id: string): Promise<void> {
  const record = await findRecordOf(context, id);
  if (record === undefined || (record.conmon !== undefined && (await isAlive(record.conmon)))) return;
  if ((await context.exits.find(id)) !== undefined) return;
  await killAll(context, record);
  const temporary = join(bundleOf(context.layout, id).path, "exit.new");
  await writeFile(temporary, `${lostExitCode}`);
  await rename(temporary, exitFileOf(context.layout, id));
}

async function killAll(context: RuntimeContext, record: ProcessRecord): Promise<void> {
  const pids = record.cgroup === undefined ? [] : await processesOf(context.cgroups, record.cgroup);
  const others = await Promise.all(pids.map(identify));
  const all = [record.process, ...others].filter((identity) => identity !== undefined);
  await Promise.all(all.map((identity) => signalProcess(identity, sigkill)));
  await Promise.all(all.map((identity) => waitUntilGone(identity, killDeadline)));
}
