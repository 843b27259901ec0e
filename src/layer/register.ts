/**
 * From a tar to an acknowledged layer. `register` unpacks into a stage (hashing as it goes) and fixes it; the layer is
 * then *pending*: it can be a parent and be shared by other registrations, but a crash forgets it. `publish` makes
 * pending layers durable (one sync for all) and ready (one transaction). `abandon` gives them up.
 *
 * Order on disk: record `staging` -> data in the driver's staging -> rename -> syncfs -> record `ready`.
 * Every pending layer holds a lease on itself per caller, and one on its parent for as long as it is pending.
 */
import { rm, stat } from "node:fs/promises";
import type { Settled } from "../archive/settle-diff.ts";
import { type ChainId, chainIdOf, type DiffId, parseDiffId } from "../base/digest.ts";
import { EngineError, errorMessage, isError } from "../base/errors.ts";
import { syncDirectory, syncFilesystem } from "../host/durable.ts";
import type { Statement } from "../metadata/database.ts";
import type { DiffMarks } from "../storage-driver/driver.ts";
import type { Diff } from "./diff-records.ts";
import type { Diffs } from "./diffs.ts";
import { KeyedLock } from "./keyed-lock.ts";
import type { Leases } from "./leases.ts";
import { type Parts, randomId, recipePath, refOf } from "./parts.ts";
import type { LayerInfo, LayerTar, PendingLayer, RegisterOptions } from "./store.ts";
import type { Sweeper } from "./sweeper.ts";
import { settle, unpack } from "./unpack.ts";

/** A layer that is unpacked and fixed, but not acknowledged. */
type Pending = {
  readonly id: string;
  readonly info: LayerInfo;
  readonly parent: string | undefined;
  readonly diff?: Diff;
};

/** Where a layer is to stand: the chain below, and the driver's id of its top. */
type Place = { readonly parent: ChainId | undefined; readonly below: string | undefined };

export class Registrations {
  readonly #parts: Parts;
  readonly #leases: Leases;
  readonly #diffs: Diffs;
  readonly #sweeper: Sweeper;
  readonly #locks = new KeyedLock();
  readonly #pending = new Map<ChainId, Pending>();
  /** Leases that callers hold, by the very object they were given. */
  readonly #handles = new Map<PendingLayer, string>();

  constructor(parts: Parts, leases: Leases, { diffs, sweeper }: { diffs: Diffs; sweeper: Sweeper }) {
    this.#parts = parts;
    this.#leases = leases;
    this.#diffs = diffs;
    this.#sweeper = sweeper;
  }

  async register(parent: ChainId | undefined, tar: LayerTar, options: RegisterOptions = {}): Promise<PendingLayer> {
    const { expected, signal } = options;
    signal?.throwIfAborted();
    if (expected === undefined) return this.#unpackUnknown(parent, tar, options);
    const chainId = chainIdOf(parent, expected);
    return this.#locks.run(
      chainId,
      async () => (await this.#share(chainId)) ?? this.#unpackNew(parent, tar, options),
      signal,
    );
  }

  async publish(layers: readonly PendingLayer[], statements: readonly Statement[]): Promise<void> {
    for (const layer of layers)
      if (!this.#handles.has(layer))
        throw new EngineError("conflict", `layer ${layer.chainId} is not pending any more; register it again`);
    const fresh = this.#withPendingBelow(layers);
    if (fresh.length > 0) await this.#sync();
    const { records } = this.#parts;
    const diffs = fresh.flatMap(({ diff }) => (diff === undefined ? [] : [diff]));
    const ready = fresh.map(({ id, info }) => records.readyLayer(id, info));
    await records.transact([...this.#diffs.readyStatements(diffs), ...ready, ...statements]);
    this.#diffs.published(diffs);
    for (const { id, info, parent, diff } of fresh) {
      if (this.#pending.get(info.chainId)?.id !== id) continue;
      this.#pending.delete(info.chainId);
      if (diff !== undefined) await this.#diffs.give(diff);
      if (parent !== undefined) this.#leases.give(parent);
    }
    for (const layer of layers) this.#release(layer);
  }

  /** From the top down, so that a parent's last lease falls after its child's. */
  async abandon(layers: readonly PendingLayer[]): Promise<void> {
    for (const layer of layers.toReversed()) {
      const id = this.#release(layer);
      const pending = this.#pending.get(layer.chainId);
      if (id !== undefined && pending?.id === id) await this.#dropUnused(pending);
    }
  }

  /** Gives up everything that was never published. */
  async close(): Promise<void> {
    await this.abandon([...this.#handles.keys()]);
  }

  #release(layer: PendingLayer): string | undefined {
    const id = this.#handles.get(layer);
    this.#handles.delete(layer);
    if (id !== undefined) this.#leases.give(id);
    return id;
  }

  /** A lease on the chain if it is there, ready or pending. */
  async #share(chainId: ChainId): Promise<PendingLayer | undefined> {
    const found = await this.#lease(chainId);
    return found && this.#handle(found.id, { ...found.info, existed: true });
  }

  async #lease(chainId: ChainId): Promise<Pending | undefined> {
    for (;;) {
      const pending = this.#pending.get(chainId);
      const row = pending === undefined ? this.#parts.records.findLayer(chainId) : undefined;
      const id = pending?.id ?? row?.id;
      if (id === undefined) return undefined;
      const blocked = this.#leases.blocked(id);
      if (blocked === undefined) {
        this.#leases.take(id);
        if (pending !== undefined) return pending;
        if (row !== undefined) return { id: row.id, info: infoOf(row), parent: undefined };
      }
      await blocked;
    }
  }

  #handle(id: string, layer: PendingLayer): PendingLayer {
    this.#handles.set(layer, id);
    return layer;
  }

  /** Unpacks `expected`, which is not there; the caller holds the lock of its chain. */
  async #unpackNew(parent: ChainId | undefined, tar: LayerTar, options: RegisterOptions): Promise<PendingLayer> {
    return this.#keep(await this.#unpack(parent, tar, options));
  }

  /** Only the hash tells which layer this is, so it is unpacked first and dropped when it was there already. */
  async #unpackUnknown(parent: ChainId | undefined, tar: LayerTar, options: RegisterOptions): Promise<PendingLayer> {
    const unpacked = await this.#unpack(parent, tar, options);
    return this.#locks.run(unpacked.info.chainId, async () => {
      let shared: PendingLayer | undefined;
      try {
        shared = await this.#share(unpacked.info.chainId);
      } catch (error) {
        await this.#drop(unpacked);
        throw error;
      }
      if (shared === undefined) return this.#keep(unpacked);
      await this.#drop(unpacked);
      return shared;
    });
  }

  #keep(pending: Pending): PendingLayer {
    this.#pending.set(pending.info.chainId, pending);
    this.#leases.take(pending.id);
    return this.#handle(pending.id, { ...pending.info, existed: false });
  }

  /** On success the result holds a lease on its parent; on failure nothing stays. */
  async #unpack(parent: ChainId | undefined, tar: LayerTar, options: RegisterOptions): Promise<Pending> {
    const below = parent === undefined ? undefined : await this.#lease(parent);
    if (parent !== undefined && below === undefined) throw new EngineError("not_found", `No such layer: ${parent}`);
    const place = { parent, below: below?.id };
    try {
      if (this.#diffs.marks === undefined) return await this.#unpackOver(place, tar, options);
      return await this.#unpackApart(place, tar, { ...options, marks: this.#diffs.marks });
    } catch (error) {
      if (below !== undefined) await this.#giveBack(below);
      throw error;
    }
  }

  /** Unpacks the tar on its own, or takes it as it is here, and puts it over the parent; where it does not fit, it is applied again. */
  async #unpackApart(
    place: Place,
    tar: LayerTar,
    { expected, signal, marks }: RegisterOptions & { readonly marks: DiffMarks },
  ): Promise<Pending> {
    const here = expected === undefined ? undefined : await this.#diffs.find(expected);
    const diff = here ?? (await this.#diffs.unpack(marks, tar, signal));
    let settled: Pending | undefined;
    try {
      signal?.throwIfAborted();
      verified(diff.diffId, expected);
      settled = await this.#settle(place, diff);
      return (
        settled ??
        (await this.#unpackOver(place, this.#diffs.tar(diff), { expected: diff.diffId, ...(signal ? { signal } : {}) }))
      );
    } finally {
      if (settled === undefined) await this.#diffs.give(diff);
    }
  }

  /** Undefined where the diff does not mean what its tar means over that parent. */
  async #settle({ parent, below }: Place, diff: Diff): Promise<Pending | undefined> {
    const { diffId, size, tarSize, facts } = diff;
    if (facts === undefined) return undefined;
    const id = randomId();
    const { records } = this.#parts;
    try {
      await records.note(records.insertLayer({ id, kind: "image", parent: below, diff: diff.id }));
      const layer = refOf(this.#parts, id);
      this.#checkDepth(layer.parents.length);
      const settled = await settle(this.#parts, layer, { below, facts }).catch(unreadable);
      if (!settled.fits) {
        await this.#erase(id);
        return undefined;
      }
      if (settled.corrected === 0) await records.note(records.thinLayer(id));
      const info = { chainId: chainIdOf(parent, diffId), diffId, parent, size, tarSize, content: diff.id };
      return { id, info, parent: below, diff };
    } catch (error) {
      await this.#erase(id);
      throw error;
    }
  }

  /** Applies the tar to the tree of the chain below. */
  async #unpackOver({ parent, below }: Place, tar: LayerTar, { expected, signal }: RegisterOptions): Promise<Pending> {
    const id = randomId();
    const { records } = this.#parts;
    try {
      await records.note(records.insertLayer({ id, kind: "image", parent: below }));
      const layer = refOf(this.#parts, id);
      this.#checkDepth(layer.parents.length + 1);
      const applied = await unpack(this.#parts, layer, { tar, ...(signal ? { signal } : {}) });
      const diffId = verified(parseDiffId(applied.diffId), expected);
      const { size, tarSize } = applied;
      const info = { chainId: chainIdOf(parent, diffId), diffId, parent, size, tarSize, content: id };
      return { id, info, parent: below };
    } catch (error) {
      await this.#erase(id);
      throw error;
    }
  }

  /** A container needs its own layer and the init layer over the chain. */
  #checkDepth(depth: number): void {
    const most = this.#parts.driver.traits.maxParents - 1;
    if (depth > most)
      throw new EngineError(
        "invalid_argument",
        `max depth exceeded: the ${this.#parts.driver.name} storage driver takes ${most} layers`,
      );
  }

  async #giveBack(pending: Pending): Promise<void> {
    this.#leases.give(pending.id);
    if (this.#pending.get(pending.info.chainId)?.id === pending.id) await this.#dropUnused(pending);
  }

  async #dropUnused(pending: Pending): Promise<void> {
    if (!this.#leases.has(pending.id)) {
      this.#pending.delete(pending.info.chainId);
      await this.#drop(pending);
    }
  }

  async #drop({ id, parent, diff }: Pending): Promise<void> {
    await this.#erase(id);
    if (diff !== undefined) await this.#diffs.give(diff);
    if (parent === undefined) return;
    const below = this.#pending.values().find((pending) => pending.id === parent);
    if (below === undefined) this.#leases.give(parent);
    else await this.#giveBack(below);
  }

  async #erase(id: string): Promise<void> {
    const { driver, records } = this.#parts;
    await this.#sweeper.carryOut(id, async () => {
      await driver.remove(id);
      await rm(recipePath(this.#parts, id), { force: true });
      await records.note(records.forget({ table: "layer_layers", id }));
    });
    this.#sweeper.start();
  }

  /** The pending ones of `layers` and of everything below them, lowest first. */
  #withPendingBelow(layers: readonly PendingLayer[]): Pending[] {
    const found = new Map<string, Pending>();
    for (const layer of layers) {
      const up: Pending[] = [];
      for (let next = this.#pending.get(layer.chainId); next !== undefined; ) {
        up.unshift(next);
        next = next.info.parent === undefined ? undefined : this.#pending.get(next.info.parent);
      }
      for (const pending of up) found.set(pending.id, pending);
    }
    return [...found.values()];
  }

  /** One sync of the driver's filesystem, and of the recipes' where that is another. */
  async #sync(): Promise<void> {
    const { driver, folder } = this.#parts;
    await syncFilesystem(driver.home);
    if ((await stat(folder)).dev !== (await stat(driver.home)).dev) await syncFilesystem(folder);
    await syncDirectory(folder);
  }
}

/** Facts that cannot be read settle nothing. */
function unreadable(error: unknown): Settled {
  if (isError(error, "data_loss")) return { fits: false, why: errorMessage(error) };
  throw error;
}

const infoOf = ({ chainId, diffId, parent, size, tarSize, content }: LayerInfo): LayerInfo => ({
  content,
  chainId,
  diffId,
  parent,
  size,
  tarSize,
});

function verified(found: DiffId, expected: DiffId | undefined): DiffId {
  if (expected !== undefined && found !== expected)
    throw new EngineError("data_loss", `layer tar has digest ${found}, expected ${expected}: fetch or build it again`);
  return found;
}
