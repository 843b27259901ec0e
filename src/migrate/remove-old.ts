/**
 * Removes what a migration left behind with the old driver. The records go first, then the data; the driver's role
 * `kept` goes last, so that a removal that was cut short is taken up by the next `--remove-old`.
 */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { discardWritables, forgetRole, readRoles } from "../layer/driver-roles.ts";
import { openLayerStore } from "../layer/open.ts";
import type { Database, Statement } from "../metadata/database.ts";
import { openStorageDriver } from "../storage-driver/select.ts";
import type { Ground, MigrateOptions } from "./migration.ts";

/** Removes the data of every driver that was moved away from; returns their names. */
export async function removeKept(ground: Ground, options: MigrateOptions): Promise<readonly string[]> {
  const { kept } = readRoles(ground.database);
  for (const name of kept) await removeOne(ground, name, options);
  return kept;
}

async function removeOne(ground: Ground, name: string, options: MigrateOptions): Promise<void> {
  const { dataRoot, database, pool, modules } = ground;
  await using driver = await openStorageDriver({
    root: dataRoot,
    configured: name,
    modules,
    options: options.sourceOptions ?? {},
    context: { pool },
  });
  const scratch = join(dataRoot, "migrating");
  const open = () => openLayerStore({ root: dataRoot, execRoot: join(scratch, "old"), driver, database, pool });
  await database.transact([discardWritables(name), releaseAll(name)]);
  {
    await using store = await open();
    await store.collect();
  }
  // Init layers without an image serve whoever comes next; nobody does.
  if (hasInits(database, name)) {
    await database.transact([discardInits(name)]);
    await using _store = await open();
  }
  while ((await driver.sweep()) > 0);
  await database.transact([forgetRole(name)]);
  await rm(scratch, { recursive: true, force: true });
}

const releaseAll = (driver: string): Statement => ({
  sql: "DELETE FROM layer_owners WHERE layer IN (SELECT id FROM layer_layers WHERE driver = ?)",
  parameters: [driver],
});

const discardInits = (driver: string): Statement => ({
  sql: "UPDATE layer_layers SET state = 'removing', parent = NULL WHERE driver = ? AND kind = 'init'",
  parameters: [driver],
});

const hasInits = (database: Database, driver: string): boolean =>
  database.get("SELECT 1 FROM layer_layers WHERE driver = ? AND kind = 'init'", driver) !== undefined;
