/**
 * The metadata as a check reads it: on a read-only connection, before any store opens and reconciles. Whether SQLite
 * itself finds the file sound is asked first; nothing else of an unsound file is believed.
 */
import { existsSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { EngineError, errorMessage } from "../base/errors.ts";
import type { Database, Row, Schema, SqlValue } from "../metadata/database.ts";
import { failureOf } from "../metadata/failure.ts";

export type LayerRecord = {
  readonly id: string;
  readonly driver: string;
  readonly kind: "image" | "init";
  readonly state: string;
  readonly parent: string | undefined;
  readonly chainId: string;
  readonly diffId: string;
  readonly size: number;
  readonly tarSize: number;
};

export type WritableRecord = {
  readonly id: string;
  readonly data: string;
  readonly driver: string;
  readonly state: string;
  readonly init: string | undefined;
  readonly size: number | undefined;
};

export type ImageRecord = { readonly id: string; readonly bytes: string };

/** Rows of every store that a check looks at, read at once. */
export type Snapshot = {
  readonly database: Database;
  readonly layers: ReadonlyMap<string, LayerRecord>;
  readonly writables: readonly WritableRecord[];
  readonly owners: readonly { readonly owner: string; readonly layer: string }[];
  readonly images: ReadonlyMap<string, ImageRecord>;
  readonly references: readonly { readonly name: string; readonly image: string }[];
  readonly containers: readonly Row[];
};

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
    throw new EngineError("internal", "a check changes no record");
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

/** Reads all rows. */
export function readSnapshot(database: Database): Snapshot {
  const layers = database.all("SELECT * FROM layer_layers").map(layerOf);
  const images = database
    .all("SELECT id, bytes FROM image ORDER BY id")
    .map(({ id, bytes }) => ({ id: String(id), bytes: String(bytes) }));
  return {
    database,
    layers: new Map(layers.map((layer) => [layer.id, layer])),
    writables: database.all("SELECT * FROM layer_writables ORDER BY id").map(writableOf),
    owners: database
      .all("SELECT owner, layer FROM layer_owners")
      .map(({ owner, layer }) => ({ owner: String(owner), layer: String(layer) })),
    images: new Map(images.map((image) => [image.id, image])),
    references: database
      .all("SELECT name, image FROM image_reference ORDER BY name")
      .map(({ name, image }) => ({ name: String(name), image: String(image) })),
    containers: database.all("SELECT id, name, record, state FROM container ORDER BY id"),
  };
}

function layerOf(row: Row): LayerRecord {
  return {
    id: String(row.id),
    driver: String(row.driver),
    kind: row.kind === "init" ? "init" : "image",
    state: String(row.state),
    parent: row.parent === null ? undefined : String(row.parent),
    chainId: String(row.chain_id),
    diffId: String(row.diff_id),
    size: Number(row.size),
    tarSize: Number(row.tar_size),
  };
}

function writableOf(row: Row): WritableRecord {
  return {
    id: String(row.id),
    data: String(row.data),
    driver: String(row.driver),
    state: String(row.state),
    init: row.init === null ? undefined : String(row.init),
    size: row.size === null ? undefined : Number(row.size),
  };
}

/** Ids from `id` down to the lowest layer, or undefined when one is not recorded (or the chain bites its tail). */
export function ancestryOf({ layers }: Pick<Snapshot, "layers">, id: string): readonly string[] | undefined {
  const chain = new Set<string>();
  for (let next: string | undefined = id; next !== undefined; ) {
    const layer = layers.get(next);
    if (layer === undefined || chain.has(next)) return undefined;
    chain.add(next);
    next = layer.parent;
  }
  return [...chain];
}
