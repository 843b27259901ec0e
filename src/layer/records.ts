/**
 * The layer store's rows: every query and statement over the tables of schema.ts, for one driver. Reading sees what
 * was acknowledged; writing makes statements, which callers join into transactions.
 */
import { type ChainId, type DiffId, parseChainId, parseDiffId } from "../base/digest.ts";
import type { Database, Row, SqlValue, Statement, TransactOptions } from "../metadata/database.ts";
import type { LayerInfo } from "./store.ts";

/** A ready image layer with its driver's id. */
export type LayerRow = LayerInfo & { readonly id: string; readonly diff: string | undefined };

/** A container's layer. `size` is undefined when nobody knows it. */
export type WritableRow = {
  readonly id: string;
  readonly data: string;
  readonly init: string;
  readonly size: number | undefined;
};

/** What the store must clean up: a row that is not ready. */
export type Remnant = { readonly id: string; readonly table: "layer_layers" | "layer_writables" | "layer_diffs" };

const layerColumns = "l.id, l.diff, l.chain_id, l.diff_id, l.size, l.tar_size, p.chain_id AS parent_chain";
const layerFrom = "FROM layer_layers l LEFT JOIN layer_layers p ON l.parent = p.id";
const isReady = "l.driver = ? AND l.kind = 'image' AND l.state = 'ready'";

const ancestry = `WITH RECURSIVE up (id, parent, diff, thin, depth) AS (
  SELECT id, parent, diff, thin, 0 FROM layer_layers WHERE id = ?
  UNION ALL SELECT l.id, l.parent, l.diff, l.thin, up.depth + 1 FROM layer_layers l JOIN up ON l.id = up.parent
) SELECT id, diff, thin FROM up ORDER BY depth`;

export class Records {
  readonly #database: Database;
  readonly #driver: string;

  constructor(database: Database, driver: string) {
    this.#database = database;
    this.#driver = driver;
  }

  transact(statements: readonly Statement[], options?: TransactOptions): Promise<void> {
    return this.#database.transact(statements, options);
  }

  /** For a row that start-up removes when a power cut leaves it half-way: the intent to make, and the end of a removal. */
  note(statement: Statement): Promise<void> {
    return this.#database.transact([statement], { durable: false });
  }

  findLayer(chainId: ChainId): LayerRow | undefined {
    const row = this.#database.get(
      `SELECT ${layerColumns} ${layerFrom} WHERE ${isReady} AND l.chain_id = ?`,
      this.#driver,
      chainId,
    );
    return row && layerRow(row);
  }

  layers(): readonly LayerRow[] {
    return this.#database
      .all(`SELECT ${layerColumns} ${layerFrom} WHERE ${isReady} ORDER BY l.chain_id`, this.#driver)
      .map(layerRow);
  }

  /** Ids of layers and diffs of every driver. */
  everyLayerId(): ReadonlySet<string> {
    const rows = this.#database.all("SELECT id FROM layer_layers UNION ALL SELECT id FROM layer_diffs");
    return new Set(rows.map((row) => text(row.id)));
  }

  /** The ids of a layer (of any kind and state) and everything below it, from the top down, as a driver stacks them; thin ones only above `thinAbove`. */
  ancestry(id: string, thinAbove = 2): readonly string[] {
    return stackOf(
      this.#database.all(ancestry, id).map(({ id, diff, thin }) => ({
        id: text(id),
        diff: diff === null ? undefined : text(diff),
        thin: thin === 1,
      })),
      thinAbove,
    );
  }

  findInit(top: string | undefined): string | undefined {
    const row = this.#database.get(
      "SELECT id FROM layer_layers WHERE driver = ? AND kind = 'init' AND state = 'ready' AND coalesce(parent, '') = ?",
      this.#driver,
      top ?? "",
    );
    return row && text(row.id);
  }

  /** Init layers with the image layer below them. */
  inits(): readonly { readonly id: string; readonly top: string | undefined }[] {
    return this.#database
      .all("SELECT id, parent FROM layer_layers WHERE driver = ? AND kind = 'init' AND state = 'ready'", this.#driver)
      .map((row) => ({ id: text(row.id), top: row.parent === null ? undefined : text(row.parent) }));
  }

  /** Ids of layers that an owner, a writable's init layer, or a layer that is being made over them needs. */
  heldLayers(): ReadonlySet<string> {
    const rows = this.#database.all(
      `SELECT layer AS id FROM layer_owners
       UNION SELECT i.parent FROM layer_writables w JOIN layer_layers i ON w.init = i.id WHERE i.parent IS NOT NULL
       UNION SELECT parent FROM layer_layers WHERE state = 'staging' AND parent IS NOT NULL`,
    );
    return new Set(rows.map((row) => text(row.id)));
  }

  /** Ids of init layers that a writable stands on. */
  usedInits(): ReadonlySet<string> {
    const rows = this.#database.all("SELECT DISTINCT init FROM layer_writables WHERE init IS NOT NULL");
    return new Set(rows.map((row) => text(row.init)));
  }

  findWritable(id: string): WritableRow | undefined {
    const row = this.#database.get(
      "SELECT id, data, init, size FROM layer_writables WHERE driver = ? AND id = ? AND state = 'ready'",
      this.#driver,
      id,
    );
    return row && writableRow(row);
  }

  writables(): readonly WritableRow[] {
    return this.#database
      .all("SELECT id, data, init, size FROM layer_writables WHERE driver = ? AND state = 'ready'", this.#driver)
      .map(writableRow);
  }

  /** Data of containers' layers that stay: of another driver, every one. */
  keptWritableData(): ReadonlySet<string> {
    const rows = this.#database.all(
      "SELECT data FROM layer_writables WHERE driver <> ? OR state = 'ready'",
      this.#driver,
    );
    return new Set(rows.map((row) => text(row.data)));
  }

  remnants(): readonly Remnant[] {
    const rows = this.#database.all(
      `SELECT data AS id, 'layer_writables' AS part FROM layer_writables WHERE driver = ?1 AND state <> 'ready'
       UNION ALL SELECT id, 'layer_layers' FROM layer_layers WHERE driver = ?1 AND state <> 'ready'
       UNION ALL SELECT id, 'layer_diffs' FROM layer_diffs WHERE driver = ?1 AND state <> 'ready'`,
      this.#driver,
    );
    const tables = ["layer_layers", "layer_diffs"] as const;
    return rows.map((row) => ({
      id: text(row.id),
      table: tables.find((table) => table === row.part) ?? "layer_writables",
    }));
  }

  insertLayer(layer: { id: string; kind: "image" | "init"; parent: string | undefined; diff?: string }): Statement {
    const { id, kind, parent, diff = null } = layer;
    if (parent === undefined)
      return {
        sql: "INSERT INTO layer_layers (id, driver, kind, state, diff) VALUES (?, ?, ?, 'staging', ?)",
        parameters: [id, this.#driver, kind, diff],
      };
    return {
      sql: `INSERT INTO layer_layers (id, driver, kind, state, diff, parent)
            SELECT ?, ?, ?, 'staging', ?, id FROM layer_layers WHERE id = ? AND state <> 'removing'`,
      parameters: [id, this.#driver, kind, diff, parent],
      changes: 1,
    };
  }

  /** Of a layer with a diff: nothing but the root's attributes is its own. */
  thinLayer(id: string): Statement {
    return { sql: "UPDATE layer_layers SET thin = 1 WHERE id = ?", parameters: [id] };
  }

  /** staging -> ready, with what is known now. One that is ready already stays so. */
  readyLayer(id: string, info: LayerInfo): Statement {
    return {
      sql: `UPDATE layer_layers SET state = 'ready', chain_id = ?, diff_id = ?, size = ?, tar_size = ?
            WHERE id = ? AND state IN ('staging', 'ready')`,
      parameters: [info.chainId, info.diffId, info.size, info.tarSize, id],
      changes: 1,
    };
  }

  readyInit(id: string): Statement {
    return {
      sql: "UPDATE layer_layers SET state = 'ready' WHERE id = ? AND state = 'staging'",
      parameters: [id],
      changes: 1,
    };
  }

  /** ready -> removing, unless somebody needs it by now; hand in children first. */
  removingLayer(id: string): Statement {
    return {
      sql: `UPDATE layer_layers SET state = 'removing', parent = NULL, diff = NULL WHERE id = ?1 AND state = 'ready'
            AND NOT EXISTS (SELECT 1 FROM layer_owners WHERE layer = ?1)
            AND NOT EXISTS (SELECT 1 FROM layer_layers WHERE parent = ?1)
            AND NOT EXISTS (SELECT 1 FROM layer_writables WHERE init = ?1)`,
      parameters: [id],
      changes: 1,
    };
  }

  /** What is not ready names nothing any more, so that rows can go in any order. */
  loosenRemnants(): readonly Statement[] {
    return [
      {
        sql: "UPDATE layer_layers SET parent = NULL, diff = NULL WHERE driver = ? AND state <> 'ready'",
        parameters: [this.#driver],
      },
      {
        sql: "UPDATE layer_writables SET init = NULL WHERE driver = ? AND state <> 'ready'",
        parameters: [this.#driver],
      },
    ];
  }

  forget(remnant: Remnant): Statement {
    const key = remnant.table === "layer_writables" ? "data" : "id";
    return { sql: `DELETE FROM ${remnant.table} WHERE ${key} = ? AND state <> 'ready'`, parameters: [remnant.id] };
  }

  hold(owner: string, chainId: ChainId): Statement {
    return {
      sql: `INSERT INTO layer_owners (owner, layer)
            SELECT ?, id FROM layer_layers WHERE driver = ? AND kind = 'image' AND state = 'ready' AND chain_id = ?
            ON CONFLICT (owner, layer) DO UPDATE SET owner = excluded.owner`,
      parameters: [owner, this.#driver, chainId],
      changes: 1,
    };
  }

  share(owner: string, other: string): Statement {
    return {
      sql: "INSERT INTO layer_owners (owner, layer) SELECT ?, layer FROM layer_owners WHERE owner = ?",
      parameters: [owner, other],
    };
  }

  release(owner: string): Statement {
    return { sql: "DELETE FROM layer_owners WHERE owner = ?", parameters: [owner] };
  }

  /** Its data are there already: data without a row are what a crash left, and go at start-up. */
  insertWritable(row: WritableRow): Statement {
    return {
      sql: `INSERT INTO layer_writables (data, id, driver, state, init, size)
            SELECT ?, ?, ?, 'ready', id, ? FROM layer_layers WHERE id = ? AND state = 'ready'`,
      parameters: [row.data, row.id, this.#driver, row.size ?? null, row.init],
      changes: 1,
    };
  }

  removingWritable(id: string): Statement {
    return {
      sql: "UPDATE layer_writables SET state = 'removing', init = NULL WHERE id = ? AND driver = ? AND state = 'ready'",
      parameters: [id, this.#driver],
    };
  }

  sizeOfWritable(data: string, size: number | undefined): Statement {
    return { sql: "UPDATE layer_writables SET size = ? WHERE data = ?", parameters: [size ?? null, data] };
  }
}

/** One layer of a chain: what it keeps itself, and the diff that it shares. */
export type Storey = { readonly id: string; readonly diff: string | undefined; readonly thin: boolean };

/**
 * A chain as a driver stacks it. A thin layer stands only where its root can be asked for: at the top, and directly
 * below a top that has no diff. A diff that stands twice is needed only where it is higher: it hides there all that it
 * would hide or show again below.
 */
export function stackOf(chain: readonly Storey[], thinAbove = 2): readonly string[] {
  const most = chain[0]?.diff === undefined ? thinAbove : Math.min(thinAbove, 1);
  const stack = chain.flatMap(({ id, diff, thin }, depth) => [
    ...(thin && depth >= most ? [] : [id]),
    ...(diff === undefined ? [] : [diff]),
  ]);
  return [...new Set(stack)];
}

function layerRow(row: Row): LayerRow {
  const parent = row.parent_chain;
  return {
    id: text(row.id),
    diff: typeof row.diff === "string" ? row.diff : undefined,
    content: text(row.diff ?? row.id),
    chainId: parseChainId(text(row.chain_id)),
    diffId: parseDiffId(text(row.diff_id)) as DiffId,
    parent: parent === null || parent === undefined ? undefined : parseChainId(text(parent)),
    size: Number(row.size),
    tarSize: Number(row.tar_size),
  };
}

function writableRow(row: Row): WritableRow {
  const size = row.size;
  return {
    id: text(row.id),
    data: text(row.data),
    init: text(row.init),
    size: size === null || size === undefined ? undefined : Number(size),
  };
}

function text(value: SqlValue | undefined): string {
  if (typeof value !== "string") throw new Error(`expected text in the layer tables, found ${typeof value}`);
  return value;
}
