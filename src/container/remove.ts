/**
 * `rm`: one transaction takes the record, the writable layer, the hold on the image's layers and the volume references;
 * who waits for the removal is told then. Files and anonymous volumes follow.
 */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { EngineError, isError } from "../base/errors.ts";
import { type Context, emit, layerOwner } from "./context.ts";
import type { Entry } from "./entry.ts";
import { deleteStatement, mustSurvive } from "./record.ts";

/** The caller holds the container's lock and it does not run. */
export async function removeLocked(
  context: Context,
  entry: Entry,
  options: { readonly volumes: boolean },
): Promise<void> {
  const { id, record } = entry;
  const { layers, volumes } = context;
  const before = entry.phase;
  entry.phase = { kind: "removing" };
  try {
    const statements = [
      deleteStatement(id),
      ...layers.releaseStatements(layerOwner(id)),
      ...volumes.releaseStatements(id),
    ];
    await layers.removeWritable(id, statements, { durable: mustSurvive(entry.record) });
  } catch (error) {
    entry.phase = before;
    throw error;
  }
  entry.phase = { kind: "removed" };
  context.entries.remove(entry);
  context.execs.forgetAll(id);
  for (const client of entry.attaching) client.end();
  emit(context, entry, "destroy");
  entry.tellRemoved();
  await Promise.all([
    rm(join(context.root, "containers", id), { recursive: true, force: true }),
    context.volatile.remove(id),
    options.volumes ? removeAnonymous(context, entry) : undefined,
    record.imageId !== undefined && context.images.find(record.imageId) === undefined ? layers.collect() : undefined,
  ]);
}

/** Volumes that were made for this container alone; one that another container uses stays. */
async function removeAnonymous(context: Context, { record }: Entry): Promise<void> {
  for (const { anonymous, name } of record.mounts) {
    if (!anonymous || name === undefined) continue;
    try {
      await context.volumes.remove(name, { force: true });
    } catch (error) {
      if (!isError(error, "conflict")) throw error;
    }
  }
}

/** Throws conflict in Docker's words for one that runs. */
export function removeContainer(
  context: Context,
  entry: Entry,
  options: { readonly force: boolean; readonly volumes: boolean },
): Promise<void> {
  if (entry.phase.kind === "removing")
    throw new EngineError("conflict", `removal of container ${entry.id} is already in progress`);
  return entry.lock.run(async () => {
    if (entry.phase.kind === "removed") throw new EngineError("not_found", `No such container: ${entry.id}`);
    refuseRunning(entry);
    await removeLocked(context, entry, options);
  });
}

function refuseRunning(entry: Entry): void {
  if (!entry.isRunning) return;
  const container = `cannot remove container "/${entry.record.name}": container is`;
  if (entry.run?.paused === true) throw new EngineError("conflict", `${container} paused and must be unpaused first`);
  const state = entry.phase.kind === "restarting" ? "restarting" : "running";
  throw new EngineError("conflict", `${container} ${state}: stop the container before removing or force remove`);
}
