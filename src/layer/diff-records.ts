/** Rows of `layer_diffs`: unpacked tars that stand under several layers, for one driver. */
import { type DiffId, parseDiffId } from "../base/digest.ts";
import type { Database, Row, Statement } from "../metadata/database.ts";

/** A tar, unpacked on its own. Without `facts` it cannot stand for a layer (archive/diff-facts.ts). */
export type Diff = {
  readonly id: string;
  readonly diffId: DiffId;
  readonly size: number;
  readonly tarSize: number;
  readonly facts: Uint8Array | undefined;
};

export class DiffRecords {
  readonly #database: Database;
  readonly #driver: string;

  constructor(database: Database, driver: string) {
    this.#database = database;
    this.#driver = driver;
  }

  ready(): readonly { readonly id: string; readonly diffId: DiffId }[] {
    return this.#database
      .all("SELECT id, diff_id FROM layer_diffs WHERE driver = ? AND state = 'ready'", this.#driver)
      .map(({ id, diff_id }) => ({ id: String(id), diffId: parseDiffId(String(diff_id)) }));
  }

  find(diffId: DiffId): Diff | undefined {
    const row = this.#database.get(
      "SELECT * FROM layer_diffs WHERE driver = ? AND diff_id = ? AND state = 'ready' AND facts IS NOT NULL LIMIT 1",
      this.#driver,
      diffId,
    );
    return row && diffOf(row);
  }

  has(diffId: DiffId): boolean {
    const sql =
      "SELECT 1 FROM layer_diffs WHERE driver = ? AND diff_id = ? AND state = 'ready' AND facts IS NOT NULL LIMIT 1";
    return this.#database.get(sql, this.#driver, diffId) !== undefined;
  }

  /** Diffs with the layers that stand on them. */
  uses(): readonly { readonly diff: string; readonly layer: string }[] {
    return this.#database
      .all("SELECT diff, id FROM layer_layers WHERE diff IS NOT NULL")
      .map(({ diff, id }) => ({ diff: String(diff), layer: String(id) }));
  }

  insert(id: string): Statement {
    return {
      sql: "INSERT INTO layer_diffs (id, driver, state) VALUES (?, ?, 'staging')",
      parameters: [id, this.#driver],
    };
  }

  /** staging -> ready. One that is ready already stays so. */
  makeReady({ id, diffId, size, tarSize, facts }: Diff): Statement {
    return {
      sql: `UPDATE layer_diffs SET state = 'ready', diff_id = ?, size = ?, tar_size = ?, facts = ?
            WHERE id = ? AND state IN ('staging', 'ready')`,
      parameters: [diffId, size, tarSize, facts ?? null, id],
      changes: 1,
    };
  }

  /** ready -> removing, unless a layer stands on it. */
  removing(id: string): Statement {
    return {
      sql: `UPDATE layer_diffs SET state = 'removing', facts = NULL WHERE id = ?1 AND state = 'ready'
            AND NOT EXISTS (SELECT 1 FROM layer_layers WHERE diff = ?1)`,
      parameters: [id],
      changes: 1,
    };
  }
}

function diffOf({ id, diff_id, size, tar_size, facts }: Row): Diff {
  return {
    id: String(id),
    diffId: parseDiffId(String(diff_id)),
    size: Number(size),
    tarSize: Number(tar_size),
    facts: facts instanceof Uint8Array ? facts : undefined,
  };
}
