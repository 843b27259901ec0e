/**
 * What `strata migrate` did to a data root, as rows. A driver's role: `current` (the data live there since a migration:
 * it is the driver that an engine uses when nobody names one), `arriving` (a migration to it from `source` has not
 * ended) or `kept` (its data were left behind, as they stood when they were moved away). No row: never migrated.
 *
 * Copies are worth something only while nobody changes what they were made of, so an engine that opens takes back
 * what is not true any more: containers' layers of a migration that has not ended go (its image layers stay, they
 * cannot change), and a driver that is used again is no copy.
 */
import type { Database, Statement } from "../metadata/database.ts";

export type DriverRoles = {
  readonly current: string | undefined;
  readonly arriving: { readonly name: string; readonly source: string } | undefined;
  readonly kept: readonly string[];
};

export function readRoles(database: Database): DriverRoles {
  const rows = database.all("SELECT name, role, source FROM layer_driver ORDER BY name");
  const of = (role: string): string[] => rows.filter((row) => row.role === role).map(({ name }) => String(name));
  const arriving = rows.find(({ role }) => role === "arriving");
  return {
    current: of("current")[0],
    arriving: arriving && { name: String(arriving.name), source: String(arriving.source) },
    kept: of("kept"),
  };
}

const setRole = (name: string, role: string, source: string | null = null): Statement => ({
  sql: "INSERT OR REPLACE INTO layer_driver (name, role, source) VALUES (?, ?, ?)",
  parameters: [name, role, source],
});

export const forgetRole = (name: string): Statement => ({
  sql: "DELETE FROM layer_driver WHERE name = ?",
  parameters: [name],
});

/** Containers' layers of a driver are nobody's any more; its next opening removes their data. */
export const discardWritables = (driver: string): Statement => ({
  sql: "UPDATE layer_writables SET state = 'removing', init = NULL WHERE driver = ?",
  parameters: [driver],
});

export const beginMigration = (source: string, target: string): readonly Statement[] => [
  { sql: "DELETE FROM layer_driver WHERE role = 'arriving'" },
  setRole(target, "arriving", source),
  setRole(source, "current"),
];

/** From here on the target is the truth. */
export const endMigration = (source: string, target: string): readonly Statement[] => [
  { sql: "DELETE FROM layer_driver WHERE role <> 'kept'" },
  setRole(target, "current"),
  setRole(source, "kept"),
];

/** An engine uses `driver` from now on; nothing is written where nothing changes. */
export async function noteUse(database: Database, driver: string): Promise<void> {
  const { current, arriving, kept } = readRoles(database);
  const statements: Statement[] = [];
  if (arriving !== undefined) statements.push(discardWritables(arriving.name), forgetRole(arriving.name));
  if (kept.includes(driver)) statements.push(forgetRole(driver));
  if (current !== undefined && current !== driver) statements.push(forgetRole(current), setRole(driver, "current"));
  if (statements.length > 0) await database.transact(statements);
}
