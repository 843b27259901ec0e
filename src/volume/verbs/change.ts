/** `rename`, `update` and `resize`: what a volume is called and how its driver treats it, with its content left alone. */
import { EngineError } from "../../base/errors.ts";
import { parseSize } from "../../base/size.ts";
import { driverOf, findVolume, haveVolume } from "../context.ts";
import { findRecord, specOf } from "../records.ts";
import type { Volume } from "../store.ts";
import { beginRename, endRename, findMove, optionsStatement, renameStatements } from "../verb-records.ts";
import { refuseRunning, subject, type VerbContext } from "./context.ts";
import { sizeOfVolume } from "./size.ts";

export async function renameVolume(context: VerbContext, name: string, to: string): Promise<Volume> {
  using _busy = context.busy.begin(name, "rename", { alone: true });
  await subject(context, name);
  if (name === to) throw new EngineError("invalid_argument", `volume ${name} has that name already`);
  const [first, second] = [name, to].sort();
  await context.locks.run(first ?? name, () => context.locks.run(second ?? to, () => renameLocked(context, name, to)));
  context.events.emit("volume", "rename", to, { driver: haveVolume(context, to).driver, oldName: name });
  return haveVolume(context, to);
}

async function renameLocked(context: VerbContext, name: string, to: string): Promise<void> {
  const { database } = context;
  const volume = haveVolume(context, name);
  const driver = driverOf(context, volume);
  refuseReferring(context, name);
  if (findRecord(database, to) !== undefined) throw new EngineError("conflict", `a volume ${to} exists already`);
  driver.validate({ name: to, options: volume.options });
  if (driver.rename === undefined)
    throw new EngineError(
      "unsupported",
      `the driver ${driver.name} cannot rename a volume: clone it (strata volume clone ${name} ${to}) and remove the old one`,
    );
  if (findMove(database, name) !== undefined)
    throw new EngineError("conflict", `volume ${name} is being migrated: end that first (strata volume migrate)`);
  await database.transact([beginRename(name, to)]);
  try {
    await driver.rename(specOf(volume), to);
  } catch (error) {
    await database.transact([endRename(name)]);
    throw error;
  }
  const { mountpoint = "" } = await driver.describe({ ...specOf(volume), name: to });
  await database.transact(renameStatements(name, { name: to, mountpoint }));
  context.whole.delete(name);
}

function refuseReferring({ users }: VerbContext, name: string): void {
  const names = users.of(name).map((user) => user.name);
  if (names.length > 0)
    throw new EngineError(
      "conflict",
      `cannot rename volume ${name}: containers refer to it by that name: ${names.join(", ")}`,
    );
}

export async function updateVolume(
  context: VerbContext,
  name: string,
  changes: Readonly<Record<string, string>>,
): Promise<Volume> {
  using _busy = context.busy.begin(name, "update", { alone: true });
  await subject(context, name);
  if (Object.keys(changes).length === 0)
    throw new EngineError("invalid_argument", "there is nothing to update: name an option and its value");
  return context.locks.run(name, () => changeOptions(context, name, changes));
}

/** The caller holds the volume's lock. */
async function changeOptions(
  context: VerbContext,
  name: string,
  changes: Readonly<Record<string, string>>,
): Promise<Volume> {
  const volume = haveVolume(context, name);
  const driver = driverOf(context, volume);
  const options = Object.fromEntries(
    Object.entries({ ...volume.options, ...changes }).filter(([, value]) => value !== ""),
  );
  driver.validate({ name, options });
  if (driver.update === undefined && driver.traits.foreign === true)
    throw new EngineError(
      "unsupported",
      `the driver ${driver.name} cannot change options: clone the volume with others (strata volume clone)`,
    );
  const onlySize = Object.keys(changes).every((key) => key === "size") && driver.update !== undefined;
  if (!onlySize) refuseRunning(context, name, "update");
  await driver.update?.(specOf(volume), options);
  const { mountpoint = "" } = await driver.describe({ name, options });
  await context.database.transact([optionsStatement(name, options, mountpoint)]);
  context.events.emit("volume", "update", name, { driver: driver.name });
  return findVolume(context, name) ?? volume;
}

export async function resizeVolume(context: VerbContext, name: string, size: string): Promise<Volume> {
  const volume = await subject(context, name);
  const { traits, update } = driverOf(context, volume);
  if (traits.sized !== true || update === undefined)
    throw new EngineError("unsupported", `the driver ${volume.driver} keeps no size for volume ${name}`);
  const bytes = parseSize(size);
  if (bytes === 0) throw new EngineError("invalid_argument", `invalid size: '${size}': a volume needs some`);
  const held = await sizeOfVolume(context, name);
  const holds = Math.max(held.allocated ?? 0, 0);
  if (holds > bytes)
    throw new EngineError("conflict", `volume ${name} holds ${holds} bytes: ${size} is too small for it`);
  return updateVolume(context, name, { size });
}
