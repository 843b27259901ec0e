/** What the layer store's suites share: a store over a driver in a scratch folder, and tars made in memory. */
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { NewEntry } from "../archive/write-tar.ts";
import { TarWriter } from "../archive/write-tar.ts";
import { type ChainId, type DiffId, digestOf } from "../base/digest.ts";
import { mountTable, unmountAll } from "../host/mount.ts";
import { createPool } from "../host/worker-pool.ts";
import type { Database } from "../metadata/database.ts";
import { openDatabase } from "../metadata/open.ts";
import type { DriverFactory, StorageDriver } from "../storage-driver/driver.ts";
import { openLayerStore } from "./open.ts";
import { layerSchema } from "./schema.ts";
import type { LayerStore, PendingLayer } from "./store.ts";

export type TestEntry = Partial<NewEntry> & { readonly path: string; readonly content?: string };

/** A layer tar: entries without a type are files. */
export async function tarOf(...entries: readonly TestEntry[]): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  const writer = new TarWriter(async (chunk) => {
    chunks.push(chunk);
  });
  for (const { content = "", type = "file", ...entry } of entries)
    await writer.add(
      { mode: type === "directory" ? 0o755 : 0o644, mtime: 1_600_000_000, type, ...entry },
      Buffer.from(type === "file" ? content : ""),
    );
  await writer.finish();
  return Buffer.concat(chunks);
}

export async function* bytes(tar: Uint8Array, piece = 10_000): AsyncGenerator<Uint8Array, void, void> {
  // A task takes what it is sent.
  for (let at = 0; at < tar.length; at += piece) yield Uint8Array.from(tar.subarray(at, at + piece));
}

export async function collectBytes(stream: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}

export const diffIdOf = (tar: Uint8Array): DiffId => digestOf(tar) as DiffId;

/** Shared by all tests of a file: starting threads takes longer than most of them. */
const pool = createPool({ size: 2 });

/** A layer store with its parts; `reopen` is a restart of the daemon (`crash`: without closing anything). */
export class StoreBench implements AsyncDisposable {
  readonly root: string;
  readonly execRoot: string;
  readonly #factory: DriverFactory;
  readonly #scratch: string;
  database: Database;
  driver: StorageDriver;
  store: LayerStore;

  static async open(factory: DriverFactory, base = tmpdir()): Promise<StoreBench> {
    const scratch = mkdtempSync(join(base, "layers-"));
    return new StoreBench(factory, scratch, await openParts(factory, scratch));
  }

  private constructor(factory: DriverFactory, scratch: string, parts: Awaited<ReturnType<typeof openParts>>) {
    this.#factory = factory;
    this.#scratch = scratch;
    this.root = join(scratch, "root");
    this.execRoot = join(scratch, "exec");
    this.database = parts.database;
    this.driver = parts.driver;
    this.store = parts.store;
  }

  async reopen(how: "closed" | "crash" = "closed", report?: (message: string) => void): Promise<void> {
    if (how === "closed") await this.#close();
    else await this.database[Symbol.asyncDispose]();
    Object.assign(this, await openParts(this.#factory, this.#scratch, report));
  }

  /** Registers and publishes; `owner` holds it. */
  async add(parent: ChainId | undefined, tar: Uint8Array, owner?: string): Promise<PendingLayer> {
    const layer = await this.store.register(parent, bytes(tar));
    await this.store.publish([layer], owner === undefined ? [] : this.store.holdStatements(owner, layer.chainId));
    return layer;
  }

  /** Asserts that nothing but what the tables name is there: ids, recipes, mounts. */
  async assertTidy(): Promise<void> {
    const rows = [
      ...this.database.all("SELECT id, state FROM layer_layers"),
      ...this.database.all("SELECT id, state FROM layer_diffs"),
      ...this.database.all("SELECT data AS id, state FROM layer_writables WHERE state = 'ready'"),
    ];
    assert.deepEqual(new Set(rows.map(({ state }) => state)), rows.length === 0 ? new Set() : new Set(["ready"]));
    assert.deepEqual([...(await this.driver.list())].sort(), rows.map(({ id }) => String(id)).sort());
    const recipes = this.database
      .all("SELECT id FROM layer_layers WHERE kind = 'image' AND diff IS NULL UNION SELECT id FROM layer_diffs")
      .map(({ id }) => String(id));
    assert.deepEqual(readdirSync(join(this.root, "layers/recipes")).sort(), recipes.sort());
    assert.deepEqual(readdirSync(join(this.execRoot, "mnt")), []);
    assert.deepEqual(this.mounts("mnt"), []);
  }

  /** Mounts below a folder of the exec root. */
  mounts(folder: string): string[] {
    const below = join(this.execRoot, folder);
    return mountTable().flatMap(({ target }) => (target.startsWith(below) ? [target] : []));
  }

  async #close(): Promise<void> {
    await this.store[Symbol.asyncDispose]();
    await this.driver[Symbol.asyncDispose]();
    await this.database[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#close();
    for (const { target } of mountTable()) if (target.startsWith(this.#scratch)) unmountAll(target);
    for (const id of await this.driver.list()) await this.driver.remove(id);
    await this.driver.sweep();
    rmSync(this.#scratch, { recursive: true });
  }
}

async function openParts(factory: DriverFactory, scratch: string, report?: (message: string) => void) {
  const root = join(scratch, "root");
  const driver = await factory.open(join(root, factory.name), {}, { pool });
  const database = await openDatabase(join(root, "meta.db"), [layerSchema]);
  const parts = { root, execRoot: join(scratch, "exec"), driver, database, pool };
  const store = await openLayerStore(report === undefined ? parts : { ...parts, report });
  return { driver, database, store };
}
