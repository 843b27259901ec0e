/** `clone`: by the driver where it can and the clone is to be like its source, else by copying through mounts of both. */
import { randomBytes } from "node:crypto";
import type { VolumeSpec } from "../../volume-driver/driver.ts";
import { driverOf, longPoolFor } from "../context.ts";
import { createNewVolume } from "../create.ts";
import { useVolume } from "../mount.ts";
import { deleteStatement, insertStatement, specOf } from "../records.ts";
import { lostSnapshots, type OwnSnapshots, ownSnapshots, snapshotOf } from "../snapshots.ts";
import type { Volume } from "../store.ts";
import { listCopies } from "../verb-records.ts";
import type { CopyReport, NewVolumeOf, Snapshot, VolumeVerbs, VolumeWork } from "../verbs.ts";
import { subject, type VerbContext } from "./context.ts";
import { copyContent } from "./copy-content.ts";
import { copyByDriver } from "./driver-copy.ts";

type Cloning = {
  readonly from: Volume;
  readonly snapshot: Snapshot | undefined;
  readonly to: NewVolumeOf;
  readonly work: VolumeWork;
};

export async function cloneVolume(
  context: VerbContext,
  ...[source, to, work = {}]: Parameters<VolumeVerbs["clone"]>
): ReturnType<VolumeVerbs["clone"]> {
  using _busy = context.busy.begin(source.name, "clone", { alone: false });
  const from = await subject(context, source.name);
  const snapshot = source.snapshot === undefined ? undefined : await snapshotOf(context, from, source.snapshot);
  const cloning = { from, snapshot, to, work };
  const began = performance.now();
  const { volume, ...report } = (await cloneByDriver(context, cloning)) ?? (await cloneByCopy(context, cloning));
  const seconds = (performance.now() - began) / 1000;
  return { volume, report: { ...report, seconds } };
}

type Cloned = { readonly volume: Volume } & Omit<CopyReport, "seconds">;

/** Undefined where the driver cannot. */
async function cloneByDriver(context: VerbContext, { from, snapshot, to, work }: Cloning): Promise<Cloned | undefined> {
  if (to.options !== undefined || (to.driver ?? from.driver) !== from.driver) return undefined;
  if (snapshot?.keptBy === "store") return undefined;
  const own = await ownSnapshots(context, from);
  if (own === undefined) return undefined;
  const { snapshots, spec, cost } = own;
  const live = snapshot === undefined;
  // What copies everything is copied by us, and its containers stand still for the last moment only; or not at all.
  if (live && (cost === "copy" || (cost === "reflink" && work.pause === false))) return undefined;
  const source = { spec, ...(snapshot === undefined ? {} : { snapshot: snapshot.name }) };
  const copy = { name: from.name, step: "copying", live, work };
  const make = (_: unknown, target: VolumeSpec): Promise<void> =>
    copyByDriver(context, copy, (copying) => snapshots.clone(source, target, copying));
  const volume = await createNewVolume(context, { ...requestOf(from, to), options: from.options }, { make });
  return { volume, cost, byStore: false, bytes: undefined, consistent: true };
}

async function cloneByCopy(context: VerbContext, { from, snapshot, to, work }: Cloning): Promise<Cloned> {
  await using stack = new AsyncDisposableStack();
  const { source, volume } = await sourceOf(context, { from, snapshot, work }, stack);
  let done = { bytes: 0, consistent: true };
  const request = requestOf(from, to);
  const target = await context.drivers.open(request.driver);
  const likeIt = { ...from, driver: target.name, options: request.options };
  const fill = async (path: string): Promise<void> => {
    const pool = longPoolFor(context, from, likeIt);
    done = await copyContent(context, { volume, source, target: path, pool, work });
  };
  const made = await createNewVolume(context, request, { fill });
  return { volume: made, cost: "copy", byStore: true, ...done };
}

/** Where the content is to be read, until the stack ends. */
export async function sourceOf(
  context: VerbContext,
  { from, snapshot, work }: Pick<Cloning, "from" | "snapshot" | "work">,
  stack: AsyncDisposableStack,
): Promise<{ readonly source: string; readonly volume: string | undefined }> {
  if (snapshot === undefined) return { source: stack.use(await useVolume(context, from.name)).path, volume: from.name };
  const copy = listCopies(context.database, from.name).find(({ name }) => name === snapshot.name);
  if (snapshot.keptBy === "store" && copy !== undefined && context.copies !== undefined)
    return { source: context.copies.pathOf(copy.id), volume: undefined };
  const own = await ownSnapshots(context, from);
  if (own === undefined) throw lostSnapshots(from);
  const temporary = { from, snapshot: snapshot.name, own, work };
  return { source: await temporaryClone(context, temporary, stack), volume: undefined };
}

type Temporary = {
  readonly from: Volume;
  readonly snapshot: string | undefined;
  readonly own: OwnSnapshots;
  readonly work: VolumeWork;
};

/**
 * A driver shows its snapshots, and the moment in which a volume is read, to nobody but as a clone: one is made for the time
 * being. Its record says that it is half-made, so a crash takes it away.
 */
export async function temporaryClone(
  context: VerbContext,
  { from, snapshot, own, work }: Temporary,
  stack: AsyncDisposableStack,
): Promise<string> {
  const { database } = context;
  const driver = driverOf(context, from);
  const volume = { ...from, name: `strata-${randomBytes(12).toString("hex")}`, labels: {}, mountpoint: "" };
  const spec = specOf(volume);
  await database.transact([insertStatement(volume, "creating")]);
  stack.defer(async () => {
    await driver.remove(spec);
    await database.transact([deleteStatement(volume.name)]);
  });
  const copy = { name: from.name, step: "copying", live: snapshot === undefined, work };
  const source = { spec: own.spec, ...(snapshot === undefined ? {} : { snapshot }) };
  await copyByDriver(context, copy, (copying) => own.snapshots.clone(source, spec, copying));
  stack.defer(() => driver.unmount(spec, "work"));
  return driver.mount(spec, "work");
}

const requestOf = (from: Volume, to: NewVolumeOf) => {
  const driver = to.driver ?? from.driver;
  const options = to.options ?? (driver === from.driver ? from.options : {});
  return { name: to.name, driver, options, labels: to.labels ?? {} };
};
