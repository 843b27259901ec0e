/**
 * Volumes as rows: reading them, and the statements that move a volume from state to state. Every move is guarded by
 * what it expects to find, so that a reference taken meanwhile makes a removal fail instead of being lost.
 */
import type { Database, Row, Statement } from "../metadata/database.ts";
import type { VolumeSpec } from "../volume-driver/driver.ts";
import type { Volume } from "./store.ts";

export type VolumeState = "creating" | "ready" | "removing";
export type VolumeRecord = Volume & { readonly state: VolumeState };

const columns = "name, driver, options, labels, anonymous, scope, mountpoint, created_at, state";

export function findRecord(database: Database, name: string): VolumeRecord | undefined {
  const row = database.get(`SELECT ${columns} FROM volume WHERE name = ?`, name);
  return row === undefined ? undefined : decode(row);
}

/** Sorted by name. */
export function listRecords(database: Database): readonly VolumeRecord[] {
  return database.all(`SELECT ${columns} FROM volume ORDER BY name`).map(decode);
}

/** Ids of the containers that hold `name`, oldest id order is not known: sorted. */
export function referencesOf(database: Database, name: string): readonly string[] {
  return database
    .all("SELECT container FROM volume_reference WHERE volume = ? ORDER BY container", name)
    .map((row) => String(row.container));
}

/** Names of the volumes that any container holds. */
export function referencedNames(database: Database): ReadonlySet<string> {
  return new Set(database.all("SELECT DISTINCT volume FROM volume_reference").map((row) => String(row.volume)));
}

export function insertStatement(volume: Volume, state: VolumeState): Statement {
  const { name, driver, scope, mountpoint, createdAt } = volume;
  const json = [JSON.stringify(volume.options), JSON.stringify(volume.labels), volume.anonymous ? 1 : 0] as const;
  return {
    sql: `INSERT INTO volume (${columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    parameters: [name, driver, ...json, scope, mountpoint, createdAt, state],
    changes: 1,
  };
}

export const readyStatement = (name: string, mountpoint: string): Statement => ({
  sql: "UPDATE volume SET state = 'ready', mountpoint = ? WHERE name = ? AND state = 'creating'",
  parameters: [mountpoint, name],
  changes: 1,
});

/** Fails when a container has come to hold the volume. */
export const removingStatement = (name: string): Statement => ({
  sql: `UPDATE volume SET state = 'removing' WHERE name = ? AND state = 'ready'
          AND NOT EXISTS (SELECT 1 FROM volume_reference WHERE volume = volume.name)`,
  parameters: [name],
  changes: 1,
});

export const deleteStatement = (name: string): Statement => ({
  sql: "DELETE FROM volume WHERE name = ?",
  parameters: [name],
});

/** Fails unless the volume is there; a second hold by the same container is none. */
export const holdStatement = (container: string, name: string): Statement => ({
  sql: `INSERT INTO volume_reference (container, volume) SELECT ?, name FROM volume WHERE name = ? AND state = 'ready'
          ON CONFLICT (container, volume) DO UPDATE SET volume = excluded.volume`,
  parameters: [container, name],
  changes: 1,
});

export const releaseStatement = (container: string): Statement => ({
  sql: "DELETE FROM volume_reference WHERE container = ?",
  parameters: [container],
});

/** What the driver is told about a volume. */
export const specOf = (volume: Pick<Volume, "name" | "options">): VolumeSpec => ({
  name: volume.name,
  options: volume.options,
});

/** The volume without its state, as the contract shows it. */
export function publicOf({ state: _, ...volume }: VolumeRecord): Volume {
  return volume;
}

function decode(row: Row): VolumeRecord {
  return {
    name: String(row.name),
    driver: String(row.driver),
    options: decodeStrings(row.options),
    labels: decodeStrings(row.labels),
    anonymous: row.anonymous === 1,
    createdAt: String(row.created_at),
    mountpoint: String(row.mountpoint),
    scope: row.scope === "global" ? "global" : "local",
    state: row.state === "creating" ? "creating" : row.state === "removing" ? "removing" : "ready",
  };
}

/** A JSON object of strings, as a column keeps it. */
export function decodeStrings(text: unknown): Readonly<Record<string, string>> {
  const value: unknown = JSON.parse(String(text));
  if (typeof value !== "object" || value === null) return {};
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, String(item)]));
}
