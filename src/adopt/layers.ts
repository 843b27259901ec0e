/**
 * Layers on their way in: the tar is made again from dockerd's tar-split and the layer's files, and registered like any
 * other, so that its digest is compared and nothing counts before the image is published. A layer that is lost is tried
 * once; every image over it is then skipped with the same reason.
 */
import { type ChainId, chainIdOf, type DiffId } from "../base/digest.ts";
import { EngineError, errorCode, errorMessage } from "../base/errors.ts";
import type { LayerStore, PendingLayer } from "../layer/store.ts";
import { type Adoption, counted } from "./context.ts";
import type { SourceLayer } from "./layer-db.ts";
import { assembleTar } from "./tar-split.ts";

export class LayerAdopter {
  readonly #adoption: Adoption;
  readonly #lost = new Map<ChainId, EngineError>();
  /** Chains that a dry run has counted. */
  readonly #planned = new Set<ChainId>();

  constructor(adoption: Adoption) {
    this.#adoption = adoption;
  }

  /** Registers a chain, lowest first; the caller publishes or abandons it. On failure nothing stays. */
  async register(layers: LayerStore, diffIds: readonly DiffId[]): Promise<PendingLayer[]> {
    const pending: PendingLayer[] = [];
    try {
      for (const diffId of diffIds) pending.push(await this.#registerOne(layers, pending.at(-1)?.chainId, diffId));
      return pending;
    } catch (error) {
      await layers.abandon(pending);
      throw error;
    }
  }

  /** Bytes that registering the chain would bring. Throws what can be told without reading the files. */
  async plan(diffIds: readonly DiffId[]): Promise<number> {
    let bytes = 0;
    let parent: ChainId | undefined;
    for (const diffId of diffIds) {
      const chainId = chainIdOf(parent, diffId);
      if (!this.#adoption.target.known.layer(chainId) && !this.#planned.has(chainId)) {
        const layer = await this.#find(parent, diffId);
        await using _files = await this.#adoption.graph.files(layer.cacheId);
        bytes += layer.size;
        this.#planned.add(chainId);
      }
      parent = chainId;
    }
    return bytes;
  }

  async #registerOne(layers: LayerStore, parent: ChainId | undefined, diffId: DiffId): Promise<PendingLayer> {
    const chainId = chainIdOf(parent, diffId);
    const lost = this.#lost.get(chainId);
    if (lost !== undefined) throw lost;
    const { signal } = this.#adoption;
    try {
      return await layers.register(parent, this.#tar(parent, diffId), { expected: diffId, signal });
    } catch (error) {
      if (signal.aborted || errorCode(error) === "no_space") throw error;
      const named = new EngineError(errorCode(error), `layer ${diffId}: ${errorMessage(error)}`, { cause: error });
      this.#lost.set(chainId, named);
      throw named;
    }
  }

  /** Nothing is read of a layer that the store has: it never asks for the first piece. */
  async *#tar(parent: ChainId | undefined, diffId: DiffId): AsyncGenerator<Uint8Array, void, void> {
    const { graph, tell, signal } = this.#adoption;
    const layer = await this.#find(parent, diffId);
    await using files = await graph.files(layer.cacheId);
    yield* counted(assembleTar(layer.split, files.path, signal), tell);
  }

  async #find(parent: ChainId | undefined, diffId: DiffId): Promise<SourceLayer> {
    const layer = await this.#adoption.layerDb.get(chainIdOf(parent, diffId));
    if (layer.diffId === diffId && layer.parent === parent) return layer;
    throw new EngineError("data_loss", "dockerd's record of it is another layer's");
  }
}
