/**
 * `strata migrate`: moves a data root to another storage driver, offline. Image layers are made again from their tars,
 * whose digests must match; containers' layers are copied tree to tree, over the same image. Both drivers' rows stand
 * side by side meanwhile, so an interrupted run goes on where it stopped. One transaction at the end makes the target
 * the driver of the data root; until then, and also after it unless told, the old data stay as they were.
 *
 *   <data root>/migrating/from, to   mounts of the two layer stores; gone at the end
 */
import { existsSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import { EngineError } from "../base/errors.ts";
import { containerSchema } from "../container/record.ts";
import { lockFile } from "../host/lock.ts";
import { createPool } from "../host/worker-pool.ts";
import { imageSchema } from "../image/schema.ts";
import { beginMigration, discardWritables, endMigration, readRoles } from "../layer/driver-roles.ts";
import { openLayerStore } from "../layer/open.ts";
import { layerSchema } from "../layer/schema.ts";
import { openDatabase } from "../metadata/open.ts";
import { networkSchema } from "../network/open.ts";
import type { StorageDriver } from "../storage-driver/driver.ts";
import { isModulePath, loadDriverModule } from "../storage-driver/driver-module.ts";
import { openStorageDriver } from "../storage-driver/select.ts";
import { volumeSchema } from "../volume/schema.ts";
import { moveContainers } from "./containers.ts";
import { explain } from "./failure.ts";
import { moveLayers } from "./layers.ts";
import type { Ground, MigrateOptions, MigrateReport, Sides } from "./migration.ts";
import { chooseSource, losses, ownersOf, refuseInUse, refuseOptions, refuseStrangers } from "./plan.ts";
import { removeKept } from "./remove-old.ts";

const schemas = [layerSchema, imageSchema, volumeSchema, networkSchema, containerSchema];

/** Throws conflict, naming the holder, while an engine has the data root; not_found where no data root is. */
export async function migrateDataRoot(options: MigrateOptions): Promise<MigrateReport> {
  const dataRoot = resolve(options.dataRoot);
  const path = join(dataRoot, "meta.db");
  if (!existsSync(path))
    throw new EngineError("not_found", `${path} does not exist: name the engine's data root with --data-root`);
  await using stack = new AsyncDisposableStack();
  stack.use(lockFile(join(dataRoot, "strata.pid")));
  const database = stack.use(await openDatabase(path, schemas));
  const pool = stack.use(createPool());
  const modules = [options.from, options.to].filter((name) => name !== undefined).filter(isModulePath);
  const ground: Ground = { dataRoot, database, pool, modules };
  const driver = stack.use(await openDriver(ground, options.to, options.storageOptions));
  const to = driver.name;
  const from = options.from;
  const named = from !== undefined && isModulePath(from) ? (await loadDriverModule(from)).name : from;
  const source = chooseSource(database, { from: named, to });
  const report =
    source === undefined
      ? { from: undefined, to, layers: 0, layersThere: 0, containers: 0, bytes: 0, warnings: [] }
      : await move(ground, { source, driver }, options);
  const removed = options.removeOld === true ? await removeKept(ground, options) : [];
  return { ...report, removed, kept: readRoles(database).kept };
}

type Direction = { readonly source: string; readonly driver: StorageDriver };

async function move(
  ground: Ground,
  { source, driver }: Direction,
  options: MigrateOptions,
): Promise<Omit<MigrateReport, "removed" | "kept">> {
  const { database, dataRoot } = ground;
  const to = driver.name;
  refuseInUse(database, source);
  const before = readRoles(database);
  const goesOn = before.arriving?.name === to && before.arriving.source === source;
  if (!goesOn) refuseStrangers(database, { target: to, source, replace: before.kept.includes(to) || options.replace });
  await using sides = await openSides(ground, { source, driver, options, discard: !goesOn });
  try {
    const warnings = [...refuseOptions(database, sides, options), ...losses(database, sides)];
    const moved = await moveLayers(ground, sides, options);
    const containers = await moveContainers(ground, sides, options);
    const owners = ownersOf(database, source);
    const holds = owners.flatMap(({ owner, chainId }) => sides.target.holdStatements(owner, chainId));
    await database.transact([...holds, ...endMigration(source, to)]);
    await sides.target.collect();
    return { from: source, to, ...moved, containers, warnings };
  } catch (error) {
    throw explain(error, { source, target: to, dataRoot });
  }
}

const openDriver = (
  { dataRoot, pool, modules }: Ground,
  configured: string,
  options: Readonly<Record<string, string>> = {},
): Promise<StorageDriver> => openStorageDriver({ root: dataRoot, configured, modules, options, context: { pool } });

type Opening = Direction & { readonly options: MigrateOptions; readonly discard: boolean };

/** Both layer stores. What an interrupted run left half done is gone when this resolves. */
async function openSides(
  ground: Ground,
  { source, driver: targetDriver, options, discard }: Opening,
): Promise<Sides & AsyncDisposable> {
  await using stack = new AsyncDisposableStack();
  const { dataRoot, database, pool } = ground;
  const to = targetDriver.name;
  const sourceDriver = stack.use(await openDriver(ground, source, options.sourceOptions));
  if (discard) await database.transact([discardWritables(to), ...beginMigration(source, to)]);
  const scratch = join(dataRoot, "migrating");
  stack.defer(() => rm(scratch, { recursive: true, force: true }));
  const store = async (driver: typeof targetDriver, name: string) =>
    stack.use(await openLayerStore({ root: dataRoot, execRoot: join(scratch, name), driver, database, pool }));
  const sides = { source: await store(sourceDriver, "from"), target: await store(targetDriver, "to"), targetDriver };
  const kept = stack.move();
  return { ...sides, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}
