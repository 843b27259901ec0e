/**
 * The layer store that faults are tried on, and what must hold after each one: what was acknowledged is listed and whole,
 * nothing else is in sight, and a start of the store leaves records, directories and mounts in agreement.
 *
 * The world: `base` and `child` are published and held by images; container `kept` stands on `child`, has written and is mounted.
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { ChainId } from "../../src/base/digest.ts";
import { mountTable, unmountAll } from "../../src/host/mount.ts";
import type { Pool } from "../../src/host/pool.ts";
import { openLayerStore } from "../../src/layer/open.ts";
import { layerSchema } from "../../src/layer/schema.ts";
import { bytes, collectBytes, tarOf } from "../../src/layer/store.fixture.ts";
import type { LayerStore, PendingLayer } from "../../src/layer/store.ts";
import type { Database } from "../../src/metadata/database.ts";
import { openDatabase } from "../../src/metadata/open.ts";
import type { DriverFactory, StorageDriver } from "../../src/storage-driver/driver.ts";

type Parts = AsyncDisposable & {
  readonly database: Database;
  readonly driver: StorageDriver;
  readonly store: LayerStore;
};

const directory = (path: string) => ({ path, type: "directory" as const });
const tars = {
  base: await tarOf(directory("etc"), { path: "etc/hosts", content: "hello" }),
  child: await tarOf({ path: "etc/new", content: "1".repeat(3000) }, { path: "etc/.wh.hosts" }),
};

export class FaultStore implements AsyncDisposable {
  readonly folder: string;
  readonly factory: DriverFactory;
  readonly #pool: Pool;
  #parts: Parts | undefined;
  /** Chain -> its tar: what was acknowledged. */
  readonly acknowledged = new Map<ChainId, Uint8Array>();
  #descriptors: readonly string[] = [];
  base = "" as ChainId;
  child = "" as ChainId;

  static async make(factory: DriverFactory, folder: string, pool: Pool): Promise<FaultStore> {
    const made = new FaultStore(factory, folder, pool);
    await made.open();
    made.base = (await made.publish(undefined, tars.base, "image:base")).chainId;
    made.child = (await made.publish(made.base, tars.child, "image:child")).chainId;
    await made.store.createWritable("kept", made.child, { storageOptions: {}, statements: [] });
    writeFileSync(join(await made.#mountKept(), "etc/file"), "written");
    await made.assertWhole();
    made.#descriptors = openFiles();
    return made;
  }

  private constructor(factory: DriverFactory, folder: string, pool: Pool) {
    this.factory = factory;
    this.folder = folder;
    this.#pool = pool;
  }

  get store(): LayerStore {
    return this.#open.store;
  }

  get driver(): StorageDriver {
    return this.#open.driver;
  }

  get database(): Database {
    return this.#open.database;
  }

  get execRoot(): string {
    return join(this.folder, "exec");
  }

  get #open(): Parts {
    if (this.#parts === undefined) throw new Error("the store is closed");
    return this.#parts;
  }

  /** A start of the engine: everything or nothing. */
  async open(): Promise<void> {
    await using stack = new AsyncDisposableStack();
    const root = join(this.folder, "root");
    const driver = stack.use(await this.factory.open(join(root, this.factory.name), {}, { pool: this.#pool }));
    const database = stack.use(await openDatabase(join(root, "meta.db"), [layerSchema]));
    const { execRoot } = this;
    const store = stack.use(await openLayerStore({ root, execRoot, driver, database, pool: this.#pool }));
    const kept = stack.move();
    this.#parts = { database, driver, store, [Symbol.asyncDispose]: () => kept.disposeAsync() };
  }

  async close(): Promise<void> {
    const parts = this.#parts;
    this.#parts = undefined;
    await parts?.[Symbol.asyncDispose]();
  }

  async publish(parent: ChainId | undefined, tar: Uint8Array, owner: string): Promise<PendingLayer> {
    const layer = await this.store.register(parent, bytes(tar));
    await this.store.publish([layer], this.store.holdStatements(owner, layer.chainId));
    this.acknowledged.set(layer.chainId, tar);
    return layer;
  }

  /** Releases every image but the world's own, and collects. */
  async drop(): Promise<void> {
    await this.database.transact([
      { sql: "DELETE FROM layer_owners WHERE owner NOT IN ('image:base', 'image:child')", parameters: [] },
    ]);
    await this.store.collect();
  }

  /** After a failure: what a client finds and does not want goes. */
  async mend(): Promise<void> {
    await this.store.removeWritable("c", []);
    await this.drop();
  }

  /** Files and directories that stand open in this process, all threads, and did not when the world was made. */
  descriptors(): string[] {
    const before = [...this.#descriptors];
    return openFiles().filter((path) => {
      const known = before.indexOf(path);
      if (known >= 0) before.splice(known, 1);
      return known < 0;
    });
  }

  mounts(): string[] {
    return mountTable().flatMap(({ target }) => (target.startsWith(this.execRoot) ? [target] : []));
  }

  /** Right after a fault: nothing acknowledged is missing, nothing else is in sight. */
  assertInSight(containers: readonly string[]): void {
    const seen = this.store.list().map(({ chainId }) => chainId);
    assert.deepEqual(seen.toSorted(), [...this.acknowledged.keys()].toSorted(), "layers in sight");
    const rows = this.database.all("SELECT id FROM layer_writables WHERE state = 'ready' ORDER BY id");
    assert.deepEqual(
      rows.map(({ id }) => String(id)),
      containers.toSorted(),
      "containers in sight",
    );
  }

  /** Every acknowledged byte is there. */
  async assertWhole(): Promise<void> {
    for (const [chain, tar] of this.acknowledged)
      assert.equal((await collectBytes(this.store.tar(chain))).equals(tar), true, `the tar of ${chain}`);
    assert.equal(readFileSync(join(await this.#mountKept(), "etc/file"), "utf8"), "written");
  }

  /** It stays mounted, as a running container does: nothing is measured in the background. */
  #mountKept(): Promise<string> {
    return this.store.mountWritable("kept", "run");
  }

  /** What is there beyond what the records and the kernel may hold: rows that are not ready, ids, recipes, mounts, folders, descriptors. */
  async leftovers(): Promise<string[]> {
    const rows = this.database.all(
      `SELECT id, state FROM layer_layers UNION ALL SELECT data AS id, state FROM layer_writables
       UNION ALL SELECT id, state FROM layer_diffs`,
    );
    const known = new Set(rows.map(({ id }) => String(id)));
    const ids = new Set(await this.driver.list());
    const images = this.database
      .all("SELECT id FROM layer_layers WHERE kind = 'image' AND diff IS NULL UNION SELECT id FROM layer_diffs")
      .map(({ id }) => String(id));
    const unused = this.database.all(
      "SELECT id FROM layer_diffs d WHERE NOT EXISTS (SELECT 1 FROM layer_layers WHERE diff = d.id)",
    );
    const recipes = readdirSync(join(this.folder, "root/layers/recipes"));
    return [
      ...rows.filter(({ state }) => state !== "ready").map(({ state }) => `row ${state}`),
      ...[...ids].filter((id) => !known.has(id)).map(() => "id without a row"),
      ...[...known].filter((id) => !ids.has(id)).map(() => "row without an id"),
      ...unused.map(() => "diff without a layer"),
      ...recipes.filter((name) => !images.includes(name)).map(() => "recipe of nobody"),
      ...images.filter((name) => !recipes.includes(name)).map(() => "image layer without a recipe"),
      ...this.mounts()
        .filter((path) => !path.endsWith("/layers/kept"))
        .map((path) => `mount ${path.replace(/[0-9a-f]{24}/, "*")}`),
      ...readdirSync(join(this.execRoot, "mnt")).map(() => "folder in mnt"),
      ...readdirSync(join(this.execRoot, "layers"))
        .filter((name) => name !== "kept")
        .map((name) => `folder layers/${name}`),
      ...this.descriptors().map((path) => `descriptor ${path}`),
    ];
  }

  /** What `remove` set aside and nobody has deleted. */
  async swept(): Promise<number> {
    await this.driver.sweep();
    const folders = readdirSync(this.driver.home);
    if (folders.includes("trash")) return readdirSync(join(this.driver.home, "trash")).length;
    // Datasets go from where they stand.
    const ids = new Set(await this.driver.list());
    return readdirSync(join(this.driver.home, "graph")).filter((id) => !ids.has(id)).length;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#parts === undefined) await this.open();
    const { driver } = this.#open;
    await this.#open.store[Symbol.asyncDispose]();
    for (const { target } of mountTable()) if (target.startsWith(this.folder)) unmountAll(target);
    for (const id of await driver.list()) await driver.remove(id);
    await driver.sweep();
    await this.close();
    rmSync(this.folder, { recursive: true });
  }
}

/** Not the database's, and not what Node keeps; the sweeper may be at work in the trash. What was unmounted has a short path. */
function openFiles(): string[] {
  return readdirSync("/proc/self/fd").flatMap((fd) => {
    try {
      const path = readlinkSync(`/proc/self/fd/${fd}`);
      return path.startsWith("/") && !/^\/(proc|dev)\/|\/trash|meta\.db|node_modules|\.node$/.test(path) ? [path] : [];
    } catch {
      return [];
    }
  });
}
