/**
 * The init layer of an image: one read-only layer over its chain, shared by all its containers, that holds the mount
 * points and files which the engine puts into every container (see init-task.ts). It is the base that a container's
 * changes are compared with, so nothing of it is ever among them. It goes when the image's top layer goes.
 */
import { syncFilesystem } from "../host/durable.ts";
import { KeyedLock } from "./keyed-lock.ts";
import { type Parts, randomId, refOf } from "./parts.ts";
import type { Sweeper } from "./sweeper.ts";

const tasks = new URL("./init-task.ts", import.meta.url);

export class InitLayers {
  readonly #parts: Parts;
  readonly #sweeper: Sweeper;
  readonly #locks = new KeyedLock();

  constructor(parts: Parts, sweeper: Sweeper) {
    this.#parts = parts;
    this.#sweeper = sweeper;
  }

  /** The id of the init layer over the layer `top` (undefined: over nothing); makes it, durably, when there is none. */
  get(top: string | undefined): Promise<string> {
    const found = this.#parts.records.findInit(top);
    if (found !== undefined) return Promise.resolve(found);
    return this.#locks.run(top ?? "", async () => this.#parts.records.findInit(top) ?? (await this.#make(top)));
  }

  async #make(top: string | undefined): Promise<string> {
    const { records, driver } = this.#parts;
    const id = randomId();
    await records.note(records.insertLayer({ id, kind: "init", parent: top }));
    try {
      await this.#fill(id);
      await syncFilesystem(driver.home);
      await records.transact([records.readyInit(id)]);
      return id;
    } catch (error) {
      await this.#sweeper.carryOut(id, async () => {
        await driver.remove(id);
        await records.note(records.forget({ table: "layer_layers", id }));
      });
      throw error;
    }
  }

  async #fill(id: string): Promise<void> {
    const { driver, mounts, pool } = this.#parts;
    const layer = refOf(this.#parts, id);
    const stage = await driver.stage(layer);
    {
      await using tree = await mounts.mount(stage.mounts);
      await pool.run<{ root: string }, void>(tasks, "fillInitLayerTask", { root: tree.path });
    }
    await driver.commit(layer);
  }
}
