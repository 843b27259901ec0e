/** `snapshot create | rm | restore`: the driver's where it has the power, else full copies that the store keeps. */
import { access } from "node:fs/promises";
import { EngineError } from "../../base/errors.ts";
import { validateName } from "../../volume-driver/volume-name.ts";
import { driverOf, haveVolume, longPoolFor } from "../context.ts";
import { useVolume } from "../mount.ts";
import { specOf } from "../records.ts";
import { finishRestore } from "../restore-copy.ts";
import {
  lostSnapshots,
  type OwnSnapshots,
  ownSnapshots,
  removeSnapshotOf,
  snapshotOf,
  snapshotsOf,
} from "../snapshots.ts";
import type { Volume } from "../store.ts";
import { beginRestore, deleteCopy, insertCopy, listCopies, setCopyState } from "../verb-records.ts";
import type { CopyReport, Snapshot, VolumeVerbs, VolumeWork } from "../verbs.ts";
import { refuseRunning, subject, type VerbContext } from "./context.ts";
import { copyContent, progressOf } from "./copy-content.ts";
import { copyByDriver } from "./driver-copy.ts";

type Report = Omit<CopyReport, "seconds">;

export async function createSnapshot(
  context: VerbContext,
  ...[name, given, work = {}]: Parameters<VolumeVerbs["createSnapshot"]>
): ReturnType<VolumeVerbs["createSnapshot"]> {
  using _busy = context.busy.begin(name, "snapshot create", { alone: true });
  const volume = await subject(context, name);
  const taken = new Set((await snapshotsOf(context, volume)).map((one) => one.name));
  const snapshot = given ?? freeName(taken);
  validateName(snapshot);
  if (taken.has(snapshot)) throw new EngineError("conflict", `volume ${name} has a snapshot ${snapshot} already`);
  const began = performance.now();
  const own = await ownSnapshots(context, volume);
  const report =
    own === undefined
      ? await keepCopy(context, { volume, snapshot, work })
      : await byDriver(context, own, { name: snapshot, work });
  const made = await snapshotOf(context, volume, snapshot);
  return { snapshot: made, report: { ...report, seconds: (performance.now() - began) / 1000 } };
}

/** The time to the second, and a number where that is taken. */
function freeName(taken: ReadonlySet<string>): string {
  const time = new Date().toISOString().slice(0, 19).replaceAll(/[-:]/g, "").replace("T", "-");
  for (let number = 1; ; number++) {
    const name = number === 1 ? time : `${time}.${number}`;
    if (!taken.has(name)) return name;
  }
}

async function byDriver(
  context: VerbContext,
  { snapshots, spec, cost }: OwnSnapshots,
  { name, work }: { readonly name: string; readonly work: VolumeWork },
): Promise<Report> {
  const copy = { name: spec.name, step: "copying", live: true, work };
  const { consistent } = await copyByDriver(context, copy, (copying) => snapshots.create(spec, name, copying));
  return { cost, byStore: false, bytes: undefined, consistent };
}

type Keeping = { readonly volume: Volume; readonly snapshot: string; readonly work: VolumeWork };

/** Row `creating`, the copy, synced, row `ready`. */
async function keepCopy(context: VerbContext, { volume, snapshot, work }: Keeping): Promise<Report> {
  const { database, copies } = context;
  if (copies === undefined)
    throw new EngineError(
      "unsupported",
      `the driver ${volume.driver} has no snapshots, and there is no place for copies`,
    );
  const { id, path: target } = await copies.make();
  const row = { volume: volume.name, name: snapshot, id, createdAt: new Date().toISOString(), bytes: 0 };
  try {
    await database.transact([insertCopy({ ...row, state: "creating" })]);
    await using use = await useVolume(context, volume.name);
    const pool = longPoolFor(context, volume);
    const copied = await copyContent(context, { volume: volume.name, source: use.path, target, pool, work });
    await database.transact([setCopyState(id, "ready", copied.bytes)]);
    return { cost: "copy", byStore: true, ...copied };
  } catch (error) {
    await copies.remove(id);
    await database.transact([deleteCopy(id)]);
    throw error;
  }
}

export async function removeSnapshot(context: VerbContext, name: string, snapshot: string): Promise<void> {
  using _busy = context.busy.begin(name, "snapshot rm", { alone: true });
  const volume = await subject(context, name);
  const found = await snapshotOf(context, volume, snapshot);
  await context.locks.run(name, () => removeSnapshotOf(context, haveVolume(context, name), found));
}

export async function restoreSnapshot(
  context: VerbContext,
  ...[name, snapshot, work = {}]: Parameters<VolumeVerbs["restoreSnapshot"]>
): Promise<CopyReport> {
  using _busy = context.busy.begin(name, "snapshot restore", { alone: true });
  const volume = await subject(context, name);
  const found = await snapshotOf(context, volume, snapshot);
  refuseRunning(context, name, "restore");
  const began = performance.now();
  await using _held = await context.users.hold(name, { freeze: false });
  const report = await context.locks.run(name, async () => {
    refuseRunning(context, name, "restore");
    return found.keptBy === "driver"
      ? restoreByDriver(context, volume, { name: snapshot, work })
      : restoreCopy(context, { volume, found, work });
  });
  return { ...report, seconds: (performance.now() - began) / 1000 };
}

async function restoreByDriver(
  context: VerbContext,
  volume: Volume,
  { name, work }: { readonly name: string; readonly work: VolumeWork },
): Promise<Report> {
  const own = await ownSnapshots(context, volume);
  if (own === undefined) throw lostSnapshots(volume);
  const copy = { name: volume.name, step: "restoring", live: false, work };
  await copyByDriver(context, copy, (copying) => own.snapshots.restore(own.spec, name, copying));
  context.whole.delete(volume.name);
  return { cost: own.cost, byStore: false, bytes: undefined, consistent: true };
}

type Restoring = { readonly volume: Volume; readonly found: Snapshot; readonly work: VolumeWork };

async function restoreCopy(context: VerbContext, { volume, found, work }: Restoring): Promise<Report> {
  const copy = listCopies(context.database, volume.name).find(({ name }) => name === found.name);
  if (copy === undefined || context.copies === undefined)
    throw new EngineError("not_found", `volume ${volume.name} has no snapshot ${found.name}`);
  const source = context.copies.pathOf(copy.id);
  if (!(await isThere(source)))
    throw new EngineError("data_loss", `the copy of snapshot ${found.name} is gone: ${source}; remove the snapshot`);
  const driver = driverOf(context, volume);
  const tell = await progressOf({ source, pool: context.longPool, work }, "restoring");
  const path = await driver.mount(specOf(volume), "restore");
  try {
    context.whole.delete(volume.name);
    await context.database.transact([beginRestore(volume.name, copy.id)]);
    const bytes = await finishRestore(context, volume, path, tell.passed);
    tell.done();
    return { cost: "copy", byStore: true, bytes, consistent: true };
  } finally {
    await driver.unmount(specOf(volume), "restore");
  }
}

const isThere = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );
