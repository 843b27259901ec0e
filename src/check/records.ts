/** Rows of every store as a check reads them: at once, on a read-only connection, before any store opens and reconciles. */
import { stackOf as stackOfChain } from "../layer/records.ts";
import type { Database, Row } from "../metadata/database.ts";

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
  /** The unpacked tar that it shares with other layers; its own data is then only what that lacks on its chain. */
  readonly diff: string | undefined;
  readonly thin: boolean;
};

export type DiffRecord = {
  readonly id: string;
  readonly driver: string;
  readonly state: string;
  readonly diffId: string;
  readonly facts: Uint8Array | undefined;
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
  readonly diffs: ReadonlyMap<string, DiffRecord>;
  readonly writables: readonly WritableRecord[];
  readonly owners: readonly { readonly owner: string; readonly layer: string }[];
  readonly images: ReadonlyMap<string, ImageRecord>;
  readonly references: readonly { readonly name: string; readonly image: string }[];
  readonly containers: readonly Row[];
};

/** Reads all rows. */
export function readSnapshot(database: Database): Snapshot {
  const layers = database.all("SELECT * FROM layer_layers").map(layerOf);
  const images = database
    .all("SELECT id, bytes FROM image ORDER BY id")
    .map(({ id, bytes }) => ({ id: String(id), bytes: String(bytes) }));
  return {
    database,
    layers: new Map(layers.map((layer) => [layer.id, layer])),
    diffs: new Map(database.all("SELECT * FROM layer_diffs").map((row) => [String(row.id), diffOf(row)])),
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
    diff: row.diff === null ? undefined : String(row.diff),
    thin: row.thin === 1,
  };
}

function diffOf(row: Row): DiffRecord {
  return {
    id: String(row.id),
    driver: String(row.driver),
    state: String(row.state),
    diffId: String(row.diff_id),
    facts: row.facts instanceof Uint8Array ? row.facts : undefined,
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

/** Ids from `id` down as a driver stacks them; see layer/records.ts. */
export function stackOf(snapshot: Pick<Snapshot, "layers">, id: string, thinAbove?: number): readonly string[] {
  const chain = (ancestryOf(snapshot, id) ?? [id]).map((step) => snapshot.layers.get(step));
  return stackOfChain(
    chain.flatMap((layer) => (layer === undefined ? [] : [layer])),
    thinAbove,
  );
}
