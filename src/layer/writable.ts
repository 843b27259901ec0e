/**
 * Containers' writable layers: made over the image's init layer, mounted at `<exec root>/layers/<id>` for as long as
 * someone holds them, measured, removed. A *holder* is a named use of the mount; holders are kept in memory, the mount
 * itself outlives the daemon and is found again in the mount table.
 *
 * Promises: one change at a time per writable; a size is never stale: a mounted layer is walked as it stands, an
 * unmounted one has a figure that was taken after its last unmount, or is walked once more (see size-record.ts).
 */
import { mkdir, readdir, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { archiveTasks } from "../archive/task-url.ts";
import type { Change } from "../base/change.ts";
import type { ChainId } from "../base/digest.ts";
import { EngineError, systemCode } from "../base/errors.ts";
import { syncFilesystem } from "../host/durable.ts";
import { isMountPoint, mountAllAsync, mountTable, unmountAllAsync } from "../host/mount.ts";
import type { Statement, TransactOptions } from "../metadata/database.ts";
import type { ChangesDirectory, LayerRef } from "../storage-driver/driver.ts";
import {
  changesSize,
  changesTar,
  listChanges,
  type Subject,
  type TarOptions,
  viewTrees,
  writableRef,
} from "./compare.ts";
import { fillWritable } from "./fill-writable.ts";
import { InitLayers } from "./init-layer.ts";
import { KeyedLock } from "./keyed-lock.ts";
import { orTellLost } from "./lost-data.ts";
import { type Parts, randomId } from "./parts.ts";
import type { WritableRow } from "./records.ts";
import { SizeRecord } from "./size-record.ts";
import type { FilledTree, LayerTar, WritableOptions, WritableView } from "./store.ts";
import type { Sweeper } from "./sweeper.ts";

/** How long after the last unmount the layer is measured: what is removed at once need not be. */
const measureDelayMs = 250;

type Measuring = { readonly timer: NodeJS.Timeout; readonly abort: AbortController };

export class Writables {
  readonly #parts: Parts;
  readonly #sweeper: Sweeper;
  readonly #inits: InitLayers;
  readonly #sizes: SizeRecord;
  readonly #locks = new KeyedLock();
  readonly #holders = new Map<string, Set<string>>();
  readonly #measuring = new Map<string, Measuring>();
  readonly #background = new Set<Promise<void>>();

  constructor(parts: Parts, sweeper: Sweeper) {
    this.#parts = parts;
    this.#sweeper = sweeper;
    this.#inits = new InitLayers(parts, sweeper);
    this.#sizes = new SizeRecord(parts);
  }

  /** Takes away mounts and marks of writables that no row names. */
  async open(): Promise<void> {
    const { mountFolder, records } = this.#parts;
    await mkdir(mountFolder, { recursive: true, mode: 0o700 });
    const rows = records.writables();
    const ids = new Set(rows.map(({ id }) => id));
    for (const name of await readdir(mountFolder)) if (!ids.has(name)) await this.#unmountPath(join(mountFolder, name));
    await this.#unmountParts(rows);
    // Marks of other drivers' writables stand there as well.
    const marked = await this.#sizes.open(records.keptWritableData());
    this.#finishUses(rows.filter(({ data, size }) => marked.has(data) || size === undefined));
  }

  async create(id: string, top: ChainId | undefined, options: WritableOptions): Promise<void> {
    const { storageOptions, statements, changes, fill, durable = true } = options;
    const isEmpty = changes === undefined && fill === undefined;
    const { records, driver } = this.#parts;
    const init = await this.#inits.get(this.#layerId(top));
    const data = randomId();
    try {
      const layer = { id: data, parents: records.ancestry(init, 1) };
      await driver.createWritable(layer, storageOptions);
      if (changes !== undefined) await fillWritable(this.#parts, layer, changes);
      if (fill !== undefined) await this.#fill(layer, fill);
      // A copy that a power cut took could not be told from a whole one; an empty diff is made again by `mounts`.
      if (driver.traits.keeps === "whole" || !isEmpty) await syncFilesystem(driver.home);
      const row = { id, data, init, size: isEmpty ? 0 : undefined };
      await records.transact([records.insertWritable(row), ...statements], { durable });
    } catch (error) {
      await this.#sweeper.carryOut(data, () => driver.remove(data));
      this.#sweeper.start();
      throw error;
    }
  }

  /** Where the driver cannot clone, a new layer is made equal to the source's tree. */
  async fork(source: string, id: string, { storageOptions, statements }: WritableOptions): Promise<void> {
    const { records, driver } = this.#parts;
    const row = this.#get(source);
    const layer = { id: randomId(), parents: records.ancestry(row.init) };
    try {
      if (!(await driver.cloneWritable?.(writableRef(this.#parts, row), layer, storageOptions))) {
        await driver.createWritable(layer, storageOptions);
        await this.#fill(layer, (tree) => this.#matchTree(source, tree));
      }
      await syncFilesystem(driver.home);
      const made = { id, data: layer.id, init: row.init, size: undefined };
      await records.transact([records.insertWritable(made), ...statements]);
    } catch (error) {
      await this.#sweeper.carryOut(layer.id, () => driver.remove(layer.id));
      this.#sweeper.start();
      throw error;
    }
    this.#measureSoon(id);
  }

  async #matchTree(source: string, target: string): Promise<void> {
    await using view = await this.view(source);
    const { source: tree, base, upper, candidates } = view;
    const argument = { source: tree, target, base, upper, candidates };
    await this.#parts.pool.run<typeof argument, void>(archiveTasks, "matchTreeTask", argument);
  }

  async #fill(layer: LayerRef, fill: (tree: string) => Promise<void>): Promise<void> {
    await using tree = await this.#parts.mounts.mount(await this.#parts.driver.mounts(layer, "writable"));
    await fill(tree.path);
  }

  /** The tree, and where it may differ from what it began as; it must not change while it is looked at. */
  async view(id: string): Promise<WritableView> {
    await using stack = new AsyncDisposableStack();
    const { subject } = stack.use(await this.#pin(id));
    const view = stack.use(await viewTrees(this.#parts, subject));
    const kept = stack.move();
    return { ...view, [Symbol.asyncDispose]: () => kept.disposeAsync() };
  }

  mount(id: string, holder: string): Promise<string> {
    this.#cancelMeasuring(id);
    return this.#locks.run(id, async () => {
      const row = this.#get(id);
      const path = this.#path(id);
      if (!this.#isMounted(id)) await this.#mount(row, path);
      this.#holders.set(id, (this.#holders.get(id) ?? new Set()).add(holder));
      return path;
    });
  }

  unmount(id: string, holder: string): Promise<void> {
    return this.#locks.run(id, async () => {
      const holders = this.#holders.get(id);
      if (holders !== undefined && !holders.delete(holder)) return;
      if (holders !== undefined && holders.size > 0) return;
      // Without holders it may still be mounted by an earlier life of the daemon.
      this.#holders.delete(id);
      const row = this.#parts.records.findWritable(id);
      if (row === undefined || !isMountPoint(this.#path(id))) return;
      await this.#unmountPath(this.#path(id));
      this.#measureSoon(id);
    });
  }

  remove(id: string, statements: readonly Statement[], options?: TransactOptions): Promise<void> {
    this.#cancelMeasuring(id);
    return this.#locks.run(id, async () => {
      const { records } = this.#parts;
      const row = records.findWritable(id);
      const removing = row === undefined ? [] : [records.removingWritable(id)];
      await records.transact([...statements, ...removing], options);
      if (row === undefined) return;
      this.#holders.delete(id);
      await this.#sweeper.carryOut(
        row.data,
        () => this.#erase(row),
        () => this.#locks.run(id, () => this.#erase(row)),
      );
      this.#sweeper.add(row.size ?? 0);
      this.#sweeper.start();
    });
  }

  /** What follows once the record is gone. The id may be another's when this is done again. */
  async #erase({ id, data }: WritableRow): Promise<void> {
    const { records, driver } = this.#parts;
    if (records.findWritable(id) === undefined) await this.#unmountPath(this.#path(id));
    await Promise.all([driver.remove(data), this.#sizes.forget(data)]);
    const forget = (): Promise<void> => records.note(records.forget({ table: "layer_writables", id: data }));
    this.#inBackground(this.#sweeper.carryOut(data, forget));
  }

  /** See the contract: exact as of the call. */
  async size(id: string): Promise<number> {
    if (!this.#isMounted(id)) return this.#locks.run(id, () => this.#measure(id));
    await using pin = await this.#pin(id);
    return await changesSize(this.#parts, pin.subject);
  }

  async changes(id: string): Promise<readonly Change[]> {
    await using pin = await this.#pin(id);
    return await listChanges(this.#parts, pin.subject);
  }

  changesTar(id: string, signal?: AbortSignal): LayerTar {
    const read = (tree?: FilledTree): AsyncIterable<Uint8Array> => this.#changesTar(id, { signal, tree });
    const row = this.#parts.records.findWritable(id);
    const apart = row !== undefined && this.#parts.driver.changes(writableRef(this.#parts, row)) !== undefined;
    return { [Symbol.asyncIterator]: () => read()[Symbol.asyncIterator](), ...(apart ? { copyInto: read } : {}) };
  }

  async *#changesTar(id: string, options: TarOptions): AsyncGenerator<Uint8Array, void, void> {
    await using pin = await this.#pin(id);
    yield* changesTar(this.#parts, pin.subject, options);
  }

  changesDirectory(id: string): ChangesDirectory | undefined {
    return this.#parts.driver.changes(writableRef(this.#parts, this.#get(id)));
  }

  /** Where the driver names a merged directory, it is the one that this store mounts. */
  describe(id: string): Readonly<Record<string, string>> {
    const data = this.#parts.driver.describe(writableRef(this.#parts, this.#get(id)), "writable");
    return "MergedDir" in data ? { ...data, MergedDir: this.#path(id) } : data;
  }

  /** Leaves mounts as they are: containers outlive the daemon. */
  async close(): Promise<void> {
    for (const id of [...this.#measuring.keys()]) {
      this.#cancelMeasuring(id);
      this.#inBackground(this.#locks.run(id, () => this.#afterUse(id)));
    }
    await Promise.all(this.#background);
  }

  #get(id: string): WritableRow {
    const row = this.#parts.records.findWritable(id);
    if (row === undefined) throw new EngineError("not_found", `No such writable layer: ${id}`);
    return row;
  }

  #layerId(top: ChainId | undefined): string | undefined {
    if (top === undefined) return undefined;
    const layer = this.#parts.records.findLayer(top);
    if (layer === undefined) throw new EngineError("not_found", `No such layer: ${top}`);
    return layer.id;
  }

  #path(id: string): string {
    return join(this.#parts.mountFolder, id);
  }

  #isMounted(id: string): boolean {
    return this.#holders.has(id) || isMountPoint(this.#path(id));
  }

  /** What is mounted stays so while it is walked. One without known holders belongs to a container that outlived us: it is left alone. */
  async #pin(id: string): Promise<AsyncDisposable & { readonly subject: Subject }> {
    const row = this.#get(id);
    if (!this.#holders.has(id)) {
      const path = this.#isMounted(id) ? this.#path(id) : undefined;
      return { subject: { row, path }, [Symbol.asyncDispose]: async () => undefined };
    }
    const holder = `walk ${randomId()}`;
    const path = await this.mount(id, holder);
    return { subject: { row, path }, [Symbol.asyncDispose]: () => this.unmount(id, holder) };
  }

  async #mount(row: WritableRow, path: string): Promise<void> {
    await this.#sizes.mark(row);
    await mkdir(path, { recursive: true, mode: 0o700 });
    const { driver } = this.#parts;
    const ref = writableRef(this.#parts, row);
    await orTellLost(this.#parts, ref, async () => {
      await driver.beforeUse?.(ref);
      await mountAllAsync(await driver.mounts(ref, "writable"), path);
    });
  }

  /** A kill between the steps of a mount leaves a view that is not whole, which nobody can have used. */
  async #unmountParts(rows: readonly WritableRow[]): Promise<void> {
    const counts = new Map<string, number>();
    for (const { target } of mountTable()) counts.set(target, (counts.get(target) ?? 0) + 1);
    for (const row of rows) {
      const count = counts.get(this.#path(row.id));
      if (count === undefined) continue;
      const steps = await this.#parts.driver.mounts(writableRef(this.#parts, row), "writable");
      if (count < steps.length) await this.#unmountPath(this.#path(row.id));
    }
  }

  /** A mount point that nobody mounts on is an empty directory, and goes with the first call. */
  async #unmountPath(path: string): Promise<void> {
    if (await isRemoved(path)) return;
    await unmountAllAsync(path);
    await rmdir(path);
  }

  #measureSoon(id: string): void {
    const abort = new AbortController();
    const timer = setTimeout(() => {
      const rest = async (): Promise<void> => {
        await this.#afterUse(id);
        await this.#measure(id, abort.signal);
      };
      this.#inBackground(this.#locks.run(id, rest, abort.signal));
    }, measureDelayMs).unref();
    this.#measuring.set(id, { timer, abort });
  }

  #cancelMeasuring(id: string): void {
    const measuring = this.#measuring.get(id);
    this.#measuring.delete(id);
    if (measuring === undefined) return;
    clearTimeout(measuring.timer);
    measuring.abort.abort(new EngineError("canceled", `measuring ${id} was given up`));
  }

  /** An earlier life may have been killed between an unmount and what follows it. */
  #finishUses(rows: readonly WritableRow[]): void {
    if (this.#parts.driver.afterUse === undefined || rows.length === 0) return;
    const mounted = new Set(mountTable().map(({ target }) => target));
    for (const { id } of rows)
      if (!mounted.has(this.#path(id))) this.#inBackground(this.#locks.run(id, () => this.#afterUse(id)));
  }

  /** Inside the lock. What failed is done again at the next start. */
  async #afterUse(id: string): Promise<void> {
    const row = this.#parts.records.findWritable(id);
    if (row === undefined || this.#isMounted(id)) return;
    await this.#parts.driver.afterUse?.(writableRef(this.#parts, row));
  }

  /** Inside the lock, so nobody mounts meanwhile. */
  async #measure(id: string, signal?: AbortSignal): Promise<number> {
    const row = this.#get(id);
    if (this.#isMounted(id)) return changesSize(this.#parts, { row, path: this.#path(id) }, signal);
    const known = await this.#sizes.read(row);
    if (known !== undefined) return known;
    const measured = await changesSize(this.#parts, { row, path: undefined }, signal);
    await this.#sizes.write(row, measured);
    return measured;
  }

  /** What fails here is done again: at the next question for a size, at the next start for a row that should be gone. */
  #inBackground(work: Promise<unknown>): void {
    const settled = work.then(
      () => undefined,
      () => undefined,
    );
    this.#background.add(settled);
    void settled.then(() => this.#background.delete(settled));
  }
}

async function isRemoved(path: string): Promise<boolean> {
  try {
    await rmdir(path);
    return true;
  } catch (error) {
    const code = systemCode(error);
    if (code === "EBUSY" || code === "ENOTEMPTY") return false;
    if (code === "ENOENT") return true;
    throw error;
  }
}
