/**
 * Opens the layer store over a storage driver.
 *
 *   <data root>/layers/recipes/<id>   what makes a layer's tar again, by the driver's id of the layer
 *   <data root>/layers/open/<id>      marks of mounted writables (size-record.ts)
 *   <exec root>/layers/<id>           mounted writables, by container id
 *   <exec root>/mnt/<random>          mounts of one operation
 *
 * The store's tables are in schema.ts, and hand themselves in as `layerSchema` when the database is opened.
 */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { Change } from "../base/change.ts";
import type { ChainId, DiffId } from "../base/digest.ts";
import { EngineError } from "../base/errors.ts";
import type { Pool } from "../host/pool.ts";
import type { Database, Statement, TransactOptions } from "../metadata/database.ts";
import type { ChangesDirectory, StorageDriver } from "../storage-driver/driver.ts";
import { collect } from "./collect.ts";
import { DiffRecords } from "./diff-records.ts";
import { Diffs } from "./diffs.ts";
import { Leases } from "./leases.ts";
import { orTellLost } from "./lost-data.ts";
import { type Parts, refOf, shownOf } from "./parts.ts";
import { reconcile } from "./reconcile.ts";
import { type LayerRow, Records } from "./records.ts";
import { Registrations } from "./register.ts";
import type {
  LayerInfo,
  LayerStore,
  LayerTar,
  MountedTree,
  PendingLayer,
  PreparedLayer,
  RegisterOptions,
  WritableOptions,
  WritableView,
} from "./store.ts";
import { Sweeper } from "./sweeper.ts";
import { layerTar } from "./tar.ts";
import { TemporaryMounts } from "./temporary-mounts.ts";
import { Writables } from "./writable.ts";

export type LayerStoreOptions = {
  /** The data root. */
  readonly root: string;
  /** What dies with the boot. */
  readonly execRoot: string;
  /** Open; the caller closes it, after the store. */
  readonly driver: StorageDriver;
  /** Opened with `layerSchema`. */
  readonly database: Database;
  readonly pool: Pool;
  /** Told what is wrong and keeps nothing from working. */
  readonly report?: (message: string) => void;
};

/** Opens the store; what an earlier life left half done is gone when this resolves. */
export async function openLayerStore(options: LayerStoreOptions): Promise<LayerStore> {
  const { root, execRoot, driver, database, pool } = options;
  const folder = join(root, "layers");
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const mounts = new TemporaryMounts(execRoot);
  await mounts.open();
  const records = new Records(database, driver.name);
  const diffRecords = new DiffRecords(database, driver.name);
  const mountFolder = join(execRoot, "layers");
  const parts: Parts = { folder, mountFolder, driver, pool, records, diffRecords, mounts };
  const store = new OpenLayerStore(parts);
  await store.open(options.report ?? (() => undefined));
  return store;
}

class OpenLayerStore implements LayerStore {
  readonly driverName: string;
  readonly #parts: Parts;
  readonly #leases = new Leases();
  readonly #sweeper: Sweeper;
  readonly #diffs: Diffs;
  readonly #registrations: Registrations;
  readonly #writables: Writables;
  #closing: Promise<void> | undefined;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.driverName = parts.driver.name;
    this.#sweeper = new Sweeper(parts.driver);
    this.#diffs = new Diffs(parts, this.#leases, this.#sweeper);
    this.#registrations = new Registrations(parts, this.#leases, { diffs: this.#diffs, sweeper: this.#sweeper });
    this.#writables = new Writables(parts, this.#sweeper);
  }

  async open(report: (message: string) => void): Promise<void> {
    // Mounts first: a stage that is still mounted could not be removed.
    await this.#writables.open();
    await reconcile(this.#parts, report);
    this.#sweeper.start();
  }

  register(parent: ChainId | undefined, tar: LayerTar, options?: RegisterOptions): Promise<PendingLayer> {
    return this.#registrations.register(parent, tar, options);
  }

  get removedBytes(): number {
    return this.#sweeper.waiting;
  }

  get preparesLayers(): boolean {
    return this.#diffs.marks !== undefined;
  }

  async prepare(tar: AsyncIterable<Uint8Array>, signal?: AbortSignal): Promise<PreparedLayer> {
    const { marks } = this.#diffs;
    if (marks === undefined)
      throw new EngineError(
        "unsupported",
        `the ${this.driverName} storage driver unpacks a layer over its parent only`,
      );
    const diff = await this.#diffs.unpack(marks, tar, signal);
    let given: Promise<void> | undefined;
    return {
      diffId: diff.diffId,
      [Symbol.asyncDispose]: () => {
        given ??= this.#diffs.give(diff);
        return given;
      },
    };
  }

  hasDiff(diffId: DiffId): boolean {
    return this.#diffs.has(diffId);
  }

  publish(layers: readonly PendingLayer[], statements: readonly Statement[]): Promise<void> {
    return this.#registrations.publish(layers, statements);
  }

  async abandon(layers: readonly PendingLayer[]): Promise<void> {
    await this.#registrations.abandon(layers);
  }

  find(chainId: ChainId): LayerInfo | undefined {
    const row = this.#parts.records.findLayer(chainId);
    return row && withoutId(row);
  }

  chain(top: ChainId): readonly LayerInfo[] {
    const chain: LayerInfo[] = [];
    for (let next: ChainId | undefined = top; next !== undefined; next = chain[0]?.parent)
      chain.unshift(withoutId(this.#get(next)));
    return chain;
  }

  list(): readonly LayerInfo[] {
    return this.#parts.records.layers().map(withoutId);
  }

  holdStatements(owner: string, top: ChainId): readonly Statement[] {
    return [this.#parts.records.hold(owner, top)];
  }

  releaseStatements(owner: string): readonly Statement[] {
    return [this.#parts.records.release(owner)];
  }

  shareStatements(owner: string, other: string): readonly Statement[] {
    return [this.#parts.records.share(owner, other)];
  }

  async collect(): Promise<readonly LayerInfo[]> {
    const gone = await collect(this.#parts, this.#leases, this.#sweeper);
    if (gone.length > 0) this.#sweeper.start();
    return gone;
  }

  tar(chainId: ChainId): AsyncIterable<Uint8Array> {
    return layerTar(this.#parts, this.#get(chainId));
  }

  async mountLayer(chainId: ChainId): Promise<MountedTree> {
    const { driver, mounts } = this.#parts;
    const ref = refOf(this.#parts, this.#get(chainId).id);
    return orTellLost(this.#parts, ref, async () => mounts.mount(await driver.mounts(ref, "layer")));
  }

  /** The lease keeps a removal of the image from taking the layers before the row of the writable stands on them. */
  async createWritable(id: string, top: ChainId | undefined, options: WritableOptions): Promise<void> {
    if (top === undefined) return this.#writables.create(id, undefined, options);
    const layer = this.#get(top).id;
    this.#leases.take(layer);
    try {
      await this.#writables.create(id, top, options);
    } finally {
      this.#leases.give(layer);
    }
  }

  forkWritable(source: string, id: string, options: WritableOptions): Promise<void> {
    return this.#writables.fork(source, id, options);
  }

  mountWritable(id: string, holder: string): Promise<string> {
    return this.#writables.mount(id, holder);
  }

  unmountWritable(id: string, holder: string): Promise<void> {
    return this.#writables.unmount(id, holder);
  }

  removeWritable(id: string, statements: readonly Statement[], options?: TransactOptions): Promise<void> {
    return this.#writables.remove(id, statements, options);
  }

  writableSize(id: string): Promise<number> {
    return this.#writables.size(id);
  }

  changes(id: string): Promise<readonly Change[]> {
    return this.#writables.changes(id);
  }

  changesTar(id: string, signal?: AbortSignal): LayerTar {
    return this.#writables.changesTar(id, signal);
  }

  viewWritable(id: string): Promise<WritableView> {
    return this.#writables.view(id);
  }

  changesDirectory(id: string): ChangesDirectory | undefined {
    return this.#writables.changesDirectory(id);
  }

  describeWritable(id: string): Readonly<Record<string, string>> {
    return this.#writables.describe(id);
  }

  describeLayer(chainId: ChainId): Readonly<Record<string, string>> {
    return this.#parts.driver.describe(shownOf(this.#parts, this.#get(chainId).id), "layer");
  }

  driverStatus(): Promise<readonly (readonly [string, string])[]> {
    return this.#parts.driver.status();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing ??= this.#close();
    await this.#closing;
  }

  async #close(): Promise<void> {
    await this.#writables.close();
    await this.#registrations.close();
    await this.#sweeper.close();
  }

  #get(chainId: ChainId): LayerRow {
    const row = this.#parts.records.findLayer(chainId);
    if (row === undefined) throw new EngineError("not_found", `No such layer: ${chainId}`);
    return row;
  }
}

function withoutId({ id: _, diff: __, ...info }: LayerRow): LayerInfo {
  return info;
}
