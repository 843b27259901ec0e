/** Snapshots of a volume, whoever keeps them: its driver, or the store as full copies. */
import { EngineError, isError } from "../base/errors.ts";
import type { CopyCost, VolumeSnapshots, VolumeSpec } from "../volume-driver/driver.ts";
import { driverOf, type VolumeContext } from "./context.ts";
import { specOf } from "./records.ts";
import type { Volume } from "./store.ts";
import { deleteCopy, listCopies, pendingRestore, setCopyState } from "./verb-records.ts";
import type { Snapshot } from "./verbs.ts";

export type OwnSnapshots = { readonly snapshots: VolumeSnapshots; readonly spec: VolumeSpec; readonly cost: CopyCost };

/** The driver's own power over this volume; undefined where it has none (its options may mount somebody else's storage). */
export async function ownSnapshots(context: VolumeContext, volume: Volume): Promise<OwnSnapshots | undefined> {
  const { snapshots } = driverOf(context, volume);
  if (snapshots === undefined) return undefined;
  const spec = specOf(volume);
  try {
    return { snapshots, spec, cost: await snapshots.cost(spec) };
  } catch (error) {
    if (isError(error, "unsupported")) return undefined;
    throw error;
  }
}

/** The driver has the power no more. */
export const lostSnapshots = ({ driver, name }: Volume): EngineError =>
  new EngineError("not_found", `the driver ${driver} has no snapshots of volume ${name} any more`);

/** Oldest first. */
export async function snapshotsOf(context: VolumeContext, volume: Volume): Promise<readonly Snapshot[]> {
  const own = await ownSnapshots(context, volume);
  const kept = listCopies(context.database, volume.name).filter(({ state }) => state === "ready");
  const all: Snapshot[] = [
    ...((await own?.snapshots.list(own.spec)) ?? []).map((one) => ({ ...one, keptBy: "driver" as const })),
    ...kept.map(({ name, createdAt, bytes }) => ({ name, createdAt, bytes, keptBy: "store" as const })),
  ];
  return all.sort((a, b) => Date.parse(a.createdAt) - Date.parse(b.createdAt) || (a.name < b.name ? -1 : 1));
}

/** Throws not_found. */
export async function snapshotOf(context: VolumeContext, volume: Volume, name: string): Promise<Snapshot> {
  const found = (await snapshotsOf(context, volume)).find((snapshot) => snapshot.name === name);
  if (found !== undefined) return found;
  throw new EngineError("not_found", `volume ${volume.name} has no snapshot ${name}`);
}

/** The caller holds the volume's lock. `goes`: with its volume. */
export async function removeSnapshotOf(
  context: VolumeContext,
  volume: Volume,
  { name, keptBy, goes = false }: Pick<Snapshot, "name" | "keptBy"> & { readonly goes?: boolean },
): Promise<void> {
  if (keptBy === "driver") {
    const own = await ownSnapshots(context, volume);
    await own?.snapshots.remove(own.spec, name);
    return;
  }
  const copy = listCopies(context.database, volume.name).find((one) => one.name === name);
  if (copy === undefined) return;
  if (!goes && pendingRestore(context.database, volume.name) === copy.id)
    throw new EngineError("conflict", `volume ${volume.name} is half restored from snapshot ${name}: end that first`);
  await context.database.transact([setCopyState(copy.id, "removing", copy.bytes)]);
  await context.copies?.remove(copy.id);
  await context.database.transact([deleteCopy(copy.id)], { durable: false });
}

/** Before a volume goes: its snapshots go with it when that was asked for, else they keep it. */
export async function dropSnapshots(context: VolumeContext, volume: Volume, wanted: boolean): Promise<void> {
  const all = await snapshotsOf(context, volume);
  if (all.length > 0 && !wanted) {
    const names = all.map(({ name }) => name).join(", ");
    throw new EngineError("conflict", `volume has snapshots (${names}): remove them first, or all with it by -f`);
  }
  for (const snapshot of all) await removeSnapshotOf(context, volume, { ...snapshot, goes: true });
}
