/**
 * `strata check`: compares records with what is on disk, both ways, and verifies every layer by its digest, for every
 * driver that the records or the disk know. It looks before any store opens, because opening one reconciles. Offline:
 * it holds the data root's lock, so that no engine runs meanwhile; containers may.
 *
 * Without `repair` nothing that anybody keeps is changed; views are mounted below `<exec root>/mnt` for as long as they
 * are read. A damaged database is reported alone, and never repaired from.
 */
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rmdir, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { EngineError, systemCode } from "../base/errors.ts";
import { containerSchema } from "../container/record.ts";
import { lockFile } from "../host/lock.ts";
import { namesIn } from "../host/names-in.ts";
import type { Pool } from "../host/pool.ts";
import { createPool } from "../host/worker-pool.ts";
import { imageSchema } from "../image/schema.ts";
import { layerSchema } from "../layer/schema.ts";
import { TemporaryMounts } from "../layer/temporary-mounts.ts";
import { openDatabase } from "../metadata/open.ts";
import { ReadOnlyDatabase } from "../metadata/read-only.ts";
import { networkSchema } from "../network/open.ts";
import type { StorageDriver } from "../storage-driver/driver.ts";
import { namedOnly, storageDrivers } from "../storage-driver/list.ts";
import { openStorageDriver } from "../storage-driver/select.ts";
import { volumeSchema } from "../volume/schema.ts";
import type { CheckContext } from "./context.ts";
import { checkImages, imagesByLayer } from "./images.ts";
import { checkLayerRecords, verifyLayers } from "./layers.ts";
import { checkLeftovers } from "./leftovers.ts";
import type { AwaitingRemoval, Checked, CheckReport, Finding, MountView } from "./problem.ts";
import { readSnapshot, type Snapshot } from "./records.ts";
import { repair } from "./repair.ts";
import { checkTrash } from "./trash.ts";
import { checkVolumes } from "./volumes.ts";
import { checkWritables } from "./writables.ts";

export type CheckOptions = {
  readonly dataRoot: string;
  readonly execRoot: string;
  /** Only this driver; every one that has records or data when undefined. */
  readonly storageDriver?: string | undefined;
  readonly repair?: boolean;
  /** Repair also removes what may be of use to somebody; see docs/check.md. */
  readonly force?: boolean;
  readonly progress?: (done: number, total: number) => void;
};

const schemas = [layerSchema, imageSchema, volumeSchema, networkSchema, containerSchema];

/** Throws conflict, naming the holder, while an engine has the data root; not_found where no data root is. */
export async function checkDataRoot(options: CheckOptions): Promise<CheckReport> {
  const dataRoot = resolve(options.dataRoot);
  const execRoot = resolve(options.execRoot);
  await refuseMissing(dataRoot);
  await using stack = new AsyncDisposableStack();
  stack.use(lockFile(join(dataRoot, "strata.pid")));
  const path = join(dataRoot, "meta.db");
  const checked: Checked = { layers: 0, bytes: 0, unverified: 0, images: 0, containers: 0, volumes: 0, drivers: [] };
  const findings: Finding[] = [];
  const pool = stack.use(createPool());
  let looked: Looked = { drivers: [], awaitingRemoval: nothing };
  {
    await using database = new ReadOnlyDatabase(path);
    const damage = database.damage();
    if (damage.length > 0) return { problems: [damagedDatabase(path, damage)], awaitingRemoval: nothing, checked };
    database.refuseOthers(schemas);
    const roots = { dataRoot, execRoot, pool, findings, checked };
    looked = await look({ ...roots, snapshot: readSnapshot(database) }, options, stack);
  }
  const { drivers, awaitingRemoval } = looked;
  if (options.repair !== true)
    return { problems: findings.map(({ mend: _, ...problem }) => problem), awaitingRemoval, checked };
  const database = stack.use(await openDatabase(path, schemas));
  const problems = await repair(findings, { database, force: options.force === true });
  // What cannot be deleted goes on waiting.
  const swept = await Promise.allSettled(drivers.map((driver) => driver.sweep()));
  const isSwept = swept.every(({ status }) => status === "fulfilled");
  return { problems, awaitingRemoval: isSwept ? nothing : awaitingRemoval, checked };
}

async function refuseMissing(dataRoot: string): Promise<void> {
  try {
    await stat(dataRoot);
  } catch (error) {
    if (systemCode(error) !== "ENOENT") throw error;
    throw new EngineError("not_found", `the data root ${dataRoot} does not exist: name another with --data-root`);
  }
}

const damagedDatabase = (path: string, damage: readonly string[]): Finding => ({
  kind: "database-damaged",
  object: path,
  detail: damage.join("; "),
  repair:
    "lost: bring the file back from a backup, or save what `sqlite3 meta.db .recover` gives back; nothing else was looked at",
});

type Ground = Pick<CheckContext, "dataRoot" | "execRoot" | "pool" | "findings" | "checked" | "snapshot">;

type Looked = { readonly drivers: readonly StorageDriver[]; readonly awaitingRemoval: AwaitingRemoval };

const nothing: AwaitingRemoval = { trees: 0, bytes: 0 };

async function look(ground: Ground, options: CheckOptions, stack: AsyncDisposableStack): Promise<Looked> {
  const drivers = await openDrivers(ground, options.storageDriver, stack);
  ground.checked.drivers = drivers.map(({ name }) => name);
  const context: CheckContext = {
    ...ground,
    drivers,
    mountView: await views(ground.execRoot, stack),
    progress: options.progress ?? (() => undefined),
    imagesOver: imagesByLayer(ground.snapshot),
  };
  await checkLeftovers(context);
  const awaitingRemoval = await checkTrash(context);
  checkImages(context);
  await checkVolumes(context);
  const states = [];
  for (const driver of drivers) states.push(await checkLayerRecords(context, driver));
  for (const state of states) await checkWritables(context, state);
  await verifyLayers(context, states);
  return { drivers, awaitingRemoval };
}

async function openDrivers(
  { dataRoot, pool, snapshot }: Ground,
  configured: string | undefined,
  stack: AsyncDisposableStack,
): Promise<readonly StorageDriver[]> {
  const names = configured === undefined ? await knownDrivers(dataRoot, snapshot) : [configured];
  const drivers: StorageDriver[] = [];
  for (const name of names) drivers.push(stack.use(await openOne(dataRoot, name, pool)));
  return drivers;
}

const openOne = (root: string, configured: string, pool: Pool): Promise<StorageDriver> =>
  openStorageDriver({ root, configured, options: {}, context: { pool } });

/** Drivers that a row names, or whose home holds something. */
async function knownDrivers(dataRoot: string, { layers, writables }: Snapshot): Promise<readonly string[]> {
  const rows = [...layers.values(), ...writables].map(({ driver }) => driver);
  const known = new Set(rows);
  for (const { name } of [...storageDrivers, ...namedOnly])
    if ((await namesIn(join(dataRoot, name))).length > 0) known.add(name);
  return [...known].sort();
}

/** Mounts of one look each; without mounts, the view is an empty directory. */
async function views(execRoot: string, stack: AsyncDisposableStack): Promise<MountView> {
  const folder = join(execRoot, "mnt");
  if (!existsSync(folder)) await mkdir(folder, { recursive: true, mode: 0o700 });
  const mounts = new TemporaryMounts(execRoot);
  const empty = await mkdtemp(join(tmpdir(), "strata-check-"));
  stack.defer(() => rmdir(empty));
  return async (steps) => {
    if (steps.length > 0) return mounts.mount(steps);
    return { path: empty, [Symbol.asyncDispose]: async () => undefined };
  };
}
