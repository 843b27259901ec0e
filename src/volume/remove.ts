/** `remove` and `prune`: row `removing`, the driver's volume, no row. A reference taken meanwhile makes a removal fail. */
import { EngineError, errorCode, errorMessage, isError } from "../base/errors.ts";
import { driverOf, findVolume, missingVolume, readyVolumes, refuseReferenced, type VolumeContext } from "./context.ts";
import { foundElsewhere } from "./create.ts";
import { pruneFilter } from "./filters.ts";
import { isLost } from "./foreign.ts";
import { volumeUsage } from "./look.ts";
import { dropMove } from "./moves.ts";
import { deleteStatement, insertStatement, referencesOf, removingStatement, specOf } from "./records.ts";
import { dropSnapshots } from "./snapshots.ts";
import type { PrunedVolumes, RemoveOptions, Volume, VolumeFilters } from "./store.ts";
import { forgetStatements } from "./verb-records.ts";

export async function removeVolume(context: VolumeContext, name: string, options: RemoveOptions): Promise<void> {
  await context.locks.run(name, async () => {
    context.busy.refuse(name);
    const volume = findVolume(context, name) ?? (await foundElsewhere(context, name));
    if (volume === undefined && options.force) return;
    if (volume === undefined) throw missingVolume(name);
    try {
      refuseReferenced(context, name);
      await dropSnapshots(context, volume, options.snapshots === true);
      await dropMove(context, name);
      await unmake(context, volume, options.force);
    } catch (cause) {
      throw new EngineError(errorCode(cause), `remove ${name}: ${errorMessage(cause)}`, { cause });
    }
  });
}

async function unmake(context: VolumeContext, volume: Volume, force: boolean): Promise<void> {
  const { database, events } = context;
  const driver = driverOf(context, volume);
  refuseReferenced(context, volume.name);
  await database.transact([removingStatement(volume.name)]).catch((error: unknown) => {
    refuseReferenced(context, volume.name);
    throw error;
  });
  try {
    await driver.remove(specOf(volume));
  } catch (error) {
    // What the driver still has is a volume still; what it has no longer needs no row.
    const forgotten = force && driver.traits.foreign === true && !isError(error, "conflict");
    if (!forgotten && !(await isLost(driver, volume))) {
      await database.transact([deleteStatement(volume.name), insertStatement(volume, "ready")]);
      throw error;
    }
  }
  // The removal is on record already: start-up would end it.
  await database.transact([deleteStatement(volume.name), ...forgetStatements(volume.name)], { durable: false });
  context.whole.delete(volume.name);
  events.emit("volume", "destroy", volume.name, { driver: volume.driver });
}

export async function pruneVolumes(context: VolumeContext, filters: VolumeFilters): Promise<PrunedVolumes> {
  const passes = pruneFilter(filters);
  if (context.now.pruning) throw new EngineError("conflict", "a prune operation is already running");
  context.now.pruning = true;
  try {
    const removed: string[] = [];
    let reclaimed = 0;
    for (const volume of readyVolumes(context)) {
      if (!passes(volume) || !mayPrune(context, volume)) continue;
      const bytes = await pruneOne(context, volume);
      if (bytes === undefined) continue;
      removed.push(volume.name);
      reclaimed += bytes;
    }
    context.events.emit("volume", "prune", "", { reclaimed: String(reclaimed) });
    return { removed, reclaimed };
  } finally {
    context.now.pruning = false;
  }
}

function mayPrune({ drivers, database }: VolumeContext, { name, driver, options }: Volume): boolean {
  const prunable = drivers.known.get(driver)?.traits.prunable === true;
  return prunable && Object.keys(options).length === 0 && referencesOf(database, name).length === 0;
}

/** Bytes given back, or undefined when somebody took the volume, or removed it, meanwhile. */
async function pruneOne(context: VolumeContext, { name }: Volume): Promise<number | undefined> {
  try {
    const bytes = await volumeUsage(context, name);
    await removeVolume(context, name, { force: false });
    return Math.max(bytes, 0);
  } catch (error) {
    if (isError(error, "conflict") || isError(error, "not_found")) return undefined;
    throw error;
  }
}
