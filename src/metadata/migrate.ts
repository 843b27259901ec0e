/**
 * Brings each store's tables from whatever the file holds to what the code knows. Table `migration` has a row for
 * every (store, step) that was applied; a step and its row are one transaction, so an interrupted upgrade goes on
 * where it stopped. A file that knows more than the code is refused, not guessed at.
 */
import type { DatabaseSync } from "node:sqlite";
import { EngineError } from "../base/errors.ts";
import type { Schema } from "./database.ts";

/** "STRA" in the file's header: SQLite's mark of whose format a database is. */
const applicationId = 0x53545241;

/** Throws conflict for a foreign or newer file; then nothing was changed. */
export function migrate(database: DatabaseSync, path: string, schemas: readonly Schema[]): void {
  claim(database, path);
  database.exec(
    "CREATE TABLE IF NOT EXISTS migration (store TEXT NOT NULL, step INTEGER NOT NULL, applied TEXT NOT NULL, PRIMARY KEY (store, step)) STRICT, WITHOUT ROWID",
  );
  const applied = appliedSteps(database);
  refuseNewer(applied, path, schemas);
  for (const schema of schemas) applySteps(database, schema, applied.get(schema.store) ?? 0);
}

function claim(database: DatabaseSync, path: string): void {
  const found = database.prepare("PRAGMA application_id").get()?.application_id;
  if (found === applicationId) return;
  const objects = database.prepare("SELECT count(*) AS count FROM sqlite_schema").get()?.count;
  if (found !== 0 || objects !== 0)
    throw new EngineError(
      "conflict",
      `${path} is not a metadata database of this engine; move it away or name another data root`,
    );
  database.exec(`PRAGMA application_id = ${applicationId}`);
}

function appliedSteps(database: DatabaseSync): Map<string, number> {
  const rows = database.prepare("SELECT store, max(step) AS step FROM migration GROUP BY store").all();
  return new Map(rows.map((row) => [String(row.store), Number(row.step)]));
}

function refuseNewer(applied: ReadonlyMap<string, number>, path: string, schemas: readonly Schema[]): void {
  for (const [store, step] of applied) {
    const known = schemas.find((schema) => schema.store === store)?.steps.length ?? 0;
    if (step > known)
      throw new EngineError(
        "conflict",
        `${path} was written by a newer version (store "${store}" is at step ${step}, this version knows ${known}); run that version or a later one`,
      );
  }
}

function applySteps(database: DatabaseSync, schema: Schema, done: number): void {
  for (const [index, sql] of schema.steps.entries()) {
    if (index < done) continue;
    database.exec("BEGIN IMMEDIATE");
    try {
      database.exec(sql);
      database
        .prepare("INSERT INTO migration (store, step, applied) VALUES (?, ?, ?)")
        .run(schema.store, index + 1, new Date().toISOString());
      database.exec("COMMIT");
    } catch (cause) {
      if (database.isTransaction) database.exec("ROLLBACK");
      throw new EngineError("internal", `cannot bring store "${schema.store}" to step ${index + 1}`, { cause });
    }
  }
}
