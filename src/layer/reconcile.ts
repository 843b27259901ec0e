/**
 * What start-up does before anything is served: records and data are made to agree, both ways. A row that never became
 * ready, or was being removed, goes with its data; data, recipes and marks that no ready row names go too.
 */
import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { lostAmong } from "./lost-data.ts";
import { type Parts, recipePath } from "./parts.ts";

/** Cleans up after an earlier life; `report` is told what is lost. The driver's trash is not swept yet. */
export async function reconcile(parts: Parts, report: (message: string) => void): Promise<void> {
  const { records, driver, folder } = parts;
  await mkdir(join(folder, "recipes"), { recursive: true, mode: 0o700 });
  const remnants = records.remnants();
  for (const { id } of remnants) await driver.remove(id);
  if (remnants.length > 0)
    await records.transact([...records.loosenRemnants(), ...remnants.map((remnant) => records.forget(remnant))]);
  const layers = new Set(records.layers().map(({ id }) => id));
  const known = new Set([
    ...layers,
    ...records.inits().map(({ id }) => id),
    ...records.writables().map((row) => row.data),
    ...parts.diffRecords.ready().map(({ id }) => id),
  ]);
  const there = await driver.list();
  for (const id of there) if (!known.has(id)) await driver.remove(id);
  for (const message of lostAmong(parts, new Set(there))) report(message);
  // Recipes of other drivers' layers stand here as well.
  const recipes = await readdir(join(folder, "recipes"));
  const every = records.everyLayerId();
  for (const name of recipes) if (!every.has(name)) await rm(recipePath(parts, name), { recursive: true, force: true });
}
