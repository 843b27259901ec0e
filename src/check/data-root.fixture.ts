/**
 * A data root as a stopped engine leaves it: two images over three layers, a container that wrote, a volume. It is made
 * by the stores; damage is done to it by outside programs, through `run` and `sql`.
 */
import assert from "node:assert/strict";
import { execFileSync, type SpawnSyncReturns, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync, type SQLInputValue } from "node:sqlite";
import { type ChainId, digestOf, type ImageId, parseImageId } from "../base/digest.ts";
import { EventBus } from "../base/events.ts";
import { containerSchema, insertStatement, newState } from "../container/record.ts";
import { mountTable, unmountAll } from "../host/mount.ts";
import { createPool } from "../host/worker-pool.ts";
import { openImageStore } from "../image/open.ts";
import { imageSchema } from "../image/schema.ts";
import type { ImageStore } from "../image/store.ts";
import { openLayerStore } from "../layer/open.ts";
import { layerSchema } from "../layer/schema.ts";
import { bytes, collectBytes, type TestEntry, tarOf } from "../layer/store.fixture.ts";
import type { LayerStore, PendingLayer } from "../layer/store.ts";
import type { Database } from "../metadata/database.ts";
import { openDatabase } from "../metadata/open.ts";
import { networkSchema } from "../network/open.ts";
import type { DriverFactory, StorageDriver } from "../storage-driver/driver.ts";
import { openVolumeStore } from "../volume/open.ts";
import { volumeSchema } from "../volume/schema.ts";
import { openVolumeDrivers } from "../volume-driver/list.ts";
import { type CheckOptions, checkDataRoot } from "./check.ts";
import type { CheckReport } from "./problem.ts";

const main = new URL("../cli/main.ts", import.meta.url).pathname;
const schemas = [layerSchema, imageSchema, volumeSchema, networkSchema, containerSchema];
const pool = createPool({ size: 2 });

const lower: readonly TestEntry[] = [
  { path: "etc", type: "directory" },
  { path: "etc/hosts", content: "127.0.0.1 localhost" },
  { path: "etc/empty" },
  { path: "bin", type: "directory", mode: 0o1755 },
  { path: "bin/tool", content: "tool".repeat(5000), mode: 0o4755, uid: 7, gid: 8 },
  { path: "bin/again", type: "link", link: "bin/tool" },
  { path: "bin/alias", type: "symlink", link: "tool" },
  { path: "bin/marked", content: "marked", xattrs: new Map([["user.mark", Buffer.from("yes")]]) },
  { path: "bin/gone", content: "hidden above" },
];
const upper: readonly TestEntry[] = [
  { path: "bin/.wh.gone" },
  { path: "etc/motd", content: "welcome" },
  { path: "bin/.wh.nothing" },
];

export const containerId = "c".repeat(64);

type Stores = AsyncDisposable & {
  readonly database: Database;
  readonly driver: StorageDriver;
  readonly layers: LayerStore;
  readonly images: ImageStore;
};

export class DataRoot implements AsyncDisposable {
  readonly root: string;
  readonly execRoot: string;
  readonly factory: DriverFactory;
  /** Chain IDs of app's layers, lowest first, and of the other image's one. */
  low = "" as ChainId;
  top = "" as ChainId;
  other = "" as ChainId;
  app = "" as ImageId;
  readonly #scratch: string;

  static async make(factory: DriverFactory, base = tmpdir()): Promise<DataRoot> {
    const root = new DataRoot(factory, mkdtempSync(join(base, "check-")));
    await root.#fill();
    return root;
  }

  private constructor(factory: DriverFactory, scratch: string) {
    this.factory = factory;
    this.#scratch = scratch;
    this.root = join(scratch, "root");
    this.execRoot = join(scratch, "exec");
  }

  check(options: Partial<CheckOptions> = {}): Promise<CheckReport> {
    return checkDataRoot({ dataRoot: this.root, execRoot: this.execRoot, ...options });
  }

  /** As a person runs it. */
  strata(...flags: readonly string[]): SpawnSyncReturns<string> {
    const roots = ["--data-root", this.root, "--exec-root", this.execRoot];
    return spawnSync(process.execPath, [main, "check", ...roots, ...flags], { encoding: "utf8" });
  }

  /** Kinds of what a check finds, sorted. */
  async kinds(options: Partial<CheckOptions> = {}): Promise<string[]> {
    return (await this.check(options)).problems.map(({ kind }) => kind).sort();
  }

  /** Runs an outside program. */
  run(file: string, ...args: readonly string[]): void {
    execFileSync(file, args, { stdio: "pipe" });
  }

  /** Changes the closed database as a stranger would: without the engine and its foreign keys. */
  sql(statement: string, ...parameters: readonly SQLInputValue[]): void {
    const database = new DatabaseSync(join(this.root, "meta.db"), { enableForeignKeyConstraints: false });
    try {
      const { changes } = database.prepare(statement).run(...parameters);
      assert.ok(Number(changes) > 0, `nothing was changed by ${statement}`);
    } finally {
      database.close();
    }
  }

  row(statement: string, ...parameters: readonly SQLInputValue[]): Readonly<Record<string, unknown>> {
    const [row] = this.rows(statement, ...parameters);
    assert.ok(row !== undefined, `no row for ${statement}`);
    return row;
  }

  rows(statement: string, ...parameters: readonly SQLInputValue[]): readonly Readonly<Record<string, unknown>>[] {
    const database = new DatabaseSync(join(this.root, "meta.db"), { readOnly: true });
    try {
      return database.prepare(statement).all(...parameters);
    } finally {
      database.close();
    }
  }

  /** The driver's id of a layer. */
  idOf(chainId: ChainId): string {
    return String(this.row("SELECT id FROM layer_layers WHERE chain_id = ?", chainId).id);
  }

  /** The driver's id of the container's layer. */
  get writable(): string {
    return String(this.row("SELECT data FROM layer_writables").data);
  }

  /** Where the driver keeps an id. */
  folder(id: string): string {
    const { name } = this.factory;
    const parts = { overlay2: [], vfs: ["dir"], btrfs: ["subvolumes"] }[name] ?? [];
    return join(this.root, name, ...parts, id);
  }

  /** The driver's id of what a layer's files stand in: its own, or that of the unpacked tar which it shares. */
  dataOf(id: string): string {
    const [row] = this.rows("SELECT coalesce(diff, id) AS data FROM layer_layers WHERE id = ?", id);
    return row === undefined ? id : String(row.data);
  }

  /** Where the files of a layer stand. */
  tree(id: string): string {
    const folder = this.folder(this.dataOf(id));
    return this.factory.name === "overlay2" ? join(folder, "diff") : folder;
  }

  /** Takes a layer's record away with all that it keeps. */
  erase(chainId: ChainId): void {
    const id = this.idOf(chainId);
    const data = this.dataOf(id);
    this.run("rm", "-rf", this.folder(id), this.folder(data), this.recipe(chainId));
    this.sql("DELETE FROM layer_layers WHERE id = ?", id);
    if (data !== id) this.sql("DELETE FROM layer_diffs WHERE id = ?", data);
  }

  recipe(chainId: ChainId): string {
    return join(this.root, "layers/recipes", this.dataOf(this.idOf(chainId)));
  }

  async open(): Promise<Stores> {
    await using stack = new AsyncDisposableStack();
    const { root, execRoot } = this;
    const database = stack.use(await openDatabase(join(root, "meta.db"), schemas));
    const driver = stack.use(await this.factory.open(join(root, this.factory.name), {}, { pool }));
    const layers = stack.use(await openLayerStore({ root, execRoot, driver, database, pool }));
    const images = openImageStore({ database, layers, events: new EventBus() });
    const kept = stack.move();
    return { database, driver, layers, images, [Symbol.asyncDispose]: () => kept.disposeAsync() };
  }

  /** The other image, which no test damages, gives its tar back and shows its file. */
  async assertOtherIsSound(): Promise<void> {
    await using stores = await this.open();
    assert.equal(stores.images.get("other:1").top, this.other);
    const tar = await collectBytes(stores.layers.tar(this.other));
    assert.equal(tar.equals(await tarOf({ path: "other", content: "other" })), true);
  }

  async #fill(): Promise<void> {
    mkdirSync(this.root, { recursive: true });
    await using stores = await this.open();
    const [low, top] = await this.#image(stores, "app:1", [await tarOf(...lower), await tarOf(...upper)]);
    const [other] = await this.#image(stores, "other:1", [await tarOf({ path: "other", content: "other" })]);
    assert.ok(low !== undefined && top !== undefined && other !== undefined);
    this.low = low.chainId;
    this.top = top.chainId;
    this.other = other.chainId;
    this.app = stores.images.get("app:1").id;
    await this.#volume(stores.database);
    await this.#container(stores);
    // A layer that had to be unpacked again left the first try in the trash.
    await stores.driver.sweep();
  }

  async #image({ layers, images }: Stores, name: string, tars: readonly Buffer[]): Promise<readonly PendingLayer[]> {
    const pending: PendingLayer[] = [];
    for (const tar of tars) pending.push(await layers.register(pending.at(-1)?.chainId, bytes(tar)));
    const text = JSON.stringify({
      architecture: "amd64",
      os: "linux",
      config: {},
      rootfs: { type: "layers", diff_ids: pending.map(({ diffId }) => diffId) },
    });
    const id = parseImageId(digestOf(text));
    const put = images.putStatements({ id, bytes: text, local: true });
    await layers.publish(pending, [...put, ...images.tagStatements(name, id)]);
    return pending;
  }

  async #volume(database: Database): Promise<void> {
    const drivers = await openVolumeDrivers({ root: this.root, pool });
    const volumes = await openVolumeStore({ database, drivers, pool, events: new EventBus() });
    for (const name of ["data", "free"]) await volumes.create({ name });
    await database.transact(volumes.holdStatements(containerId, ["data"]));
    writeFileSync(join(this.root, "volumes/data/_data/file"), "kept");
  }

  async #container({ layers }: Stores): Promise<void> {
    const folder = join(this.root, "containers", containerId);
    mkdirSync(folder, { recursive: true });
    const record = {
      id: containerId,
      name: "web",
      created: "2026-01-01T00:00:00Z",
      imageId: this.app,
      image: "app:1",
      path: "sh",
      args: [],
      config: {},
      hostConfig: {},
      mounts: [],
      networks: {},
      logPath: join(folder, `${containerId}.log`),
      hostnamePath: join(folder, "hostname"),
      hostsPath: join(folder, "hosts"),
      resolvConfPath: join(folder, "resolv.conf"),
    };
    const statements = [insertStatement(record, newState)];
    await layers.createWritable(containerId, this.top, { storageOptions: {}, statements });
    const path = await layers.mountWritable(containerId, "test");
    writeFileSync(join(path, "written"), "by the container");
    await layers.unmountWritable(containerId, "test");
    assert.equal(await layers.writableSize(containerId), 16);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { target } of mountTable()) if (target.startsWith(this.#scratch)) unmountAll(target);
    const driver = await this.factory.open(join(this.root, this.factory.name), {}, { pool });
    for (const id of await driver.list()) await driver.remove(id);
    await driver.sweep();
    rmSync(this.#scratch, { recursive: true });
  }
}
