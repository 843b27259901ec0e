/**
 * Tars that are unpacked without their parents, so that one stands under several layers and several are unpacked at a
 * time (docs/decisions/004). Each diff that is given out is leased: whoever has it gives it back. One that was not
 * acknowledged with a layer goes with its last lease; the others are garbage once no layer stands on them (collect.ts).
 *
 * Order on disk: record `staging` -> data -> rename; the sync and the record `ready` are those of the layers that use it.
 */
import { rm } from "node:fs/promises";
import { OpenFiles, openFilesMemory } from "../archive/open-files.ts";
import { archiveTasks } from "../archive/task-url.ts";
import { type DiffId, parseDiffId } from "../base/digest.ts";
import { EngineError } from "../base/errors.ts";
import type { Statement } from "../metadata/database.ts";
import type { DiffMarks } from "../storage-driver/driver.ts";
import type { Diff } from "./diff-records.ts";
import { withEarlySync } from "./early-sync.ts";
import type { Leases } from "./leases.ts";
import { type Parts, randomId, recipePath } from "./parts.ts";
import type { LayerTar } from "./store.ts";
import type { Sweeper } from "./sweeper.ts";
import { restoredTar } from "./tar.ts";

type Unpacked = {
  readonly diffId: string;
  readonly tarSize: number;
  readonly size: number;
  readonly facts: Uint8Array | undefined;
};

type Source = {
  readonly marks: DiffMarks;
  readonly tar: LayerTar;
  readonly signal: AbortSignal | undefined;
};

type Copying = {
  readonly begin: (openFiles: SharedArrayBuffer) => AsyncIterable<Uint8Array>;
  readonly signal: AbortSignal | undefined;
};

export class Diffs {
  readonly #parts: Parts;
  readonly #leases: Leases;
  readonly #sweeper: Sweeper;
  /** Unpacked and not acknowledged, by id. */
  readonly #pending = new Map<string, Diff>();

  constructor(parts: Parts, leases: Leases, sweeper: Sweeper) {
    this.#parts = parts;
    this.#leases = leases;
    this.#sweeper = sweeper;
  }

  /** Undefined where the driver keeps whole trees. */
  get marks(): DiffMarks | undefined {
    return this.#parts.driver.diffMarks;
  }

  has(diffId: DiffId): boolean {
    return this.#findPending(diffId) !== undefined || this.#parts.diffRecords.has(diffId);
  }

  /** One that is here, leased. */
  async find(diffId: DiffId): Promise<Diff | undefined> {
    for (;;) {
      const found = this.#findPending(diffId) ?? this.#parts.diffRecords.find(diffId);
      if (found === undefined) return undefined;
      const blocked = this.#leases.blocked(found.id);
      if (blocked === undefined) {
        this.#leases.take(found.id);
        return found;
      }
      await blocked;
    }
  }

  /** Unpacks a tar, or finds at its end that it is here; leased. */
  async unpack(marks: DiffMarks, tar: LayerTar, signal?: AbortSignal): Promise<Diff> {
    const id = randomId();
    await this.#parts.records.note(this.#parts.diffRecords.insert(id));
    try {
      const { diffId, ...unpacked } = await this.#fill(id, { marks, tar, signal });
      const diff = { id, diffId: parseDiffId(diffId), ...unpacked };
      const same = await this.find(diff.diffId);
      if (same === undefined) {
        this.#pending.set(id, diff);
        this.#leases.take(id);
        return diff;
      }
      await this.#erase(id);
      return same;
    } catch (error) {
      await this.#erase(id);
      throw error;
    }
  }

  /** Gives a lease back. */
  async give({ id }: Diff): Promise<void> {
    if (!this.#leases.give(id) || !this.#pending.delete(id)) return;
    await this.#erase(id);
  }

  /** What makes the diffs ready that are not. */
  readyStatements(diffs: readonly Diff[]): readonly Statement[] {
    const fresh = new Map(diffs.filter(({ id }) => this.#pending.has(id)).map((diff) => [diff.id, diff]));
    return [...fresh.values()].map((diff) => this.#parts.diffRecords.makeReady(diff));
  }

  /** They are acknowledged now, with layers that stand on them. */
  published(diffs: readonly Diff[]): void {
    for (const { id } of diffs) this.#pending.delete(id);
  }

  /** The tar of which a diff was made. */
  tar(diff: Diff): AsyncIterable<Uint8Array> {
    return restoredTar(this.#parts, { id: diff.id, parents: [] }, { content: diff.id, diffId: diff.diffId });
  }

  #findPending(diffId: DiffId): Diff | undefined {
    return this.#pending.values().find((diff) => diff.diffId === diffId && diff.facts !== undefined);
  }

  async #fill(id: string, { marks, tar, signal }: Source): Promise<Unpacked> {
    const { driver, mounts } = this.#parts;
    const layer = { id, parents: [] };
    const { mounts: steps, escapeXattrs, refusedXattrs } = await driver.stage(layer);
    let unpacked: Unpacked;
    {
      await using tree = await mounts.mount(steps);
      const stage = {
        root: tree.path,
        ...(escapeXattrs === undefined ? {} : { escapeXattrs }),
        ...(refusedXattrs === undefined ? {} : { refusedXattrs }),
      };
      const argument = { ...stage, recipePath: recipePath(this.#parts, id), opaque: marks.opaque };
      unpacked = await (tar.copyInto === undefined
        ? this.#unpack(argument, withEarlySync(driver.home, tar), signal)
        : this.#copy(argument, { begin: (openFiles) => tar.copyInto?.({ ...stage, openFiles }) ?? tar, signal }));
    }
    signal?.throwIfAborted();
    await driver.commit(layer);
    return unpacked;
  }

  #unpack(argument: object, input: AsyncIterable<Uint8Array>, signal: AbortSignal | undefined): Promise<Unpacked> {
    return this.#parts.pool.run(archiveTasks, "unpackDiffTask", argument, { input, ...(signal ? { signal } : {}) });
  }

  /** One thread puts the entries there, another reads their tar and fills the files that it was offered. */
  async #copy(argument: object, { begin, signal }: Copying): Promise<Unpacked> {
    const copied = openFilesMemory();
    const files = new OpenFiles(copied);
    const tar = withEarlySync(this.#parts.driver.home, begin(copied));
    try {
      const unpacked = await this.#unpack({ ...argument, copied }, tar, signal);
      if (files.closeLeft() > 0) throw new EngineError("internal", "files of a commit were not filled");
      return unpacked;
    } finally {
      // Whoever copies must have ended: it works in the tree, and offers files.
      await tar.return();
      files.closeLeft();
    }
  }

  async #erase(id: string): Promise<void> {
    const { driver, records } = this.#parts;
    await this.#sweeper.carryOut(id, async () => {
      await driver.remove(id);
      await rm(recipePath(this.#parts, id), { force: true });
      await records.note(records.forget({ table: "layer_diffs", id }));
    });
    this.#sweeper.start();
  }
}
