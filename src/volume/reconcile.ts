/**
 * Start-up of the volume store: rows and data are made to agree again, both ways. Data is never thrown away unless a
 * row says that it was being made or removed; a volume without a row (restored by hand, an older engine's) gets one.
 */
import type { Database } from "../metadata/database.ts";
import type { VolumeDriver } from "../volume-driver/driver.ts";
import {
  deleteStatement,
  findRecord,
  insertStatement,
  listRecords,
  referencedNames,
  specOf,
  type VolumeRecord,
} from "./records.ts";
import { endRename, pendingRenames, renameStatements } from "./verb-records.ts";

/** A driver that was giving a volume another name has done so or not; its row follows. Comes before {@link reconcile}. */
export async function finishRenames(database: Database, drivers: ReadonlyMap<string, VolumeDriver>): Promise<void> {
  for (const [from, to] of pendingRenames(database)) {
    const record = findRecord(database, from);
    const driver = record === undefined ? undefined : drivers.get(record.driver);
    if (record !== undefined && driver === undefined) continue;
    const names = new Set(await driver?.list());
    const done = record !== undefined && names.has(to) && !names.has(from);
    const mountpoint = done ? (await driver?.describe({ ...specOf(record), name: to }))?.mountpoint : undefined;
    const statements = done ? renameStatements(from, { name: to, mountpoint: mountpoint ?? "" }) : [endRename(from)];
    await database.transact(statements);
  }
}

export async function reconcile(database: Database, drivers: ReadonlyMap<string, VolumeDriver>): Promise<void> {
  for (const record of listRecords(database))
    if (record.state !== "ready") await finishRemoval(database, drivers.get(record.driver), record);
  for (const driver of drivers.values()) {
    const names = await driver.list();
    await forgetMissing(database, driver, new Set(names));
    await adoptUnknown(database, driver, names);
  }
}

/**
 * A half-made volume was never acknowledged; a half-removed one was given up. A driver that is away keeps its rows. What
 * a foreign driver may have made is left to it, for it may be somebody else's.
 */
export async function finishRemoval(
  database: Database,
  driver: VolumeDriver | undefined,
  record: VolumeRecord,
): Promise<void> {
  if (driver === undefined) return;
  if (driver.traits.foreign !== true || record.state === "removing") await driver.remove(specOf(record));
  await database.transact([deleteStatement(record.name)]);
}

/** A row whose data is gone is dropped, unless a container needs the volume: then its next mount says what is missing. */
async function forgetMissing(database: Database, driver: VolumeDriver, names: ReadonlySet<string>): Promise<void> {
  const referenced = referencedNames(database);
  const missing = listRecords(database).filter(
    (record) => record.driver === driver.name && !names.has(record.name) && !referenced.has(record.name),
  );
  await database.transact(missing.map((record) => deleteStatement(record.name)));
}

async function adoptUnknown(database: Database, driver: VolumeDriver, names: readonly string[]): Promise<void> {
  for (const name of names) {
    if (findRecord(database, name) !== undefined) continue;
    const described = await driver.describe({ name, options: {} });
    const volume = {
      name,
      driver: driver.name,
      options: described.options ?? {},
      labels: {},
      anonymous: false,
      createdAt: described.createdAt ?? new Date().toISOString(),
      mountpoint: described.mountpoint ?? "",
      scope: driver.traits.scope,
    };
    await database.transact([insertStatement(volume, "ready")]);
  }
}
