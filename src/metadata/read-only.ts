/**
 * The metadata as it stands, on a connection that changes nothing: for those who look before any store opens and
 * reconciles, or who must leave no trace. Whether SQLite itself finds the file sound can be asked first.
 */
import { existsSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { EngineError, errorMessage } from "../base/errors.ts";
import type { Database, Row, Schema, SqlValue } from "./database.ts";
import { failureOf } from "./failure.ts";

/** A connection that changes nothing. */
export class ReadOnlyDatabase implements Database {
  readonly #database: DatabaseSync;
  readonly #path: string;

  /** Throws not_found when no file is there. */
  constructor(path: string) {
    if (!existsSync(path))
      throw new EngineError("not_found", `${path} does not exist: name the engine's data root with --data-root`);
    this.#path = path;
    this.#database = new DatabaseSync(path, { readOnly: true, timeout: 5000 });
  }

  all(sql: string, ...parameters: readonly SqlValue[]): readonly Row[] {
    return this.#database.prepare(sql).all(...parameters) as Row[];
  }

  get(sql: string, ...parameters: readonly SqlValue[]): Row | undefined {
    return this.all(sql, ...parameters)[0];
  }

  async transact(): Promise<void> {
    throw new EngineError("internal", "this connection changes no record");
  }

  /** What SQLite has to say against the file; empty for a sound one. */
  damage(): readonly string[] {
    try {
      const rows = this.all("PRAGMA integrity_check(20)").map((row) => String(Object.values(row)[0]));
      return rows.length === 1 && rows[0] === "ok" ? [] : rows;
    } catch (error) {
      if (failureOf(error, this.#path).code !== "data_loss") throw error;
      return [errorMessage(error)];
    }
  }

  /** Throws conflict for a file of another version or of somebody else. */
  refuseOthers(schemas: readonly Schema[]): void {
    if (this.get("SELECT 1 FROM sqlite_schema WHERE name = 'migration'") === undefined)
      throw new EngineError("conflict", `${this.#path} is not a metadata database of this engine`);
    for (const { store, steps } of schemas) {
      const step = Number(this.get("SELECT max(step) AS step FROM migration WHERE store = ?", store)?.step ?? 0);
      if (step !== steps.length)
        throw new EngineError(
          "conflict",
          `${this.#path} was written by another version (store "${store}" is at step ${step}, this version knows ${steps.length}); check it with that version, or start this version's daemon once`,
        );
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#database.close();
  }
}
