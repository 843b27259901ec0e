/** Sizes of `system df` and `images --shared-size`: what images share, and what all layers take. */
import { type ChainId, chainIdsOf, type ImageId } from "../base/digest.ts";
import type { LayerStore } from "../layer/store.ts";
import type { Image } from "./store.ts";

/** Bytes of each image's layers that another of `images` has too. */
export function sharedSizes(images: readonly Image[], layers: Pick<LayerStore, "list">): ReadonlyMap<ImageId, number> {
  const sizes = new Map(layers.list().map(({ chainId, size }) => [chainId, size]));
  const uses = new Map<ChainId, number>();
  const chains = images.map(({ id, diffIds }) => ({ id, chain: chainIdsOf(diffIds) }));
  for (const { chain } of chains) for (const layer of chain) uses.set(layer, (uses.get(layer) ?? 0) + 1);
  return new Map(
    chains.map(({ id, chain }) => {
      const shared = chain.filter((layer) => (uses.get(layer) ?? 0) > 1);
      return [id, shared.reduce((sum, layer) => sum + (sizes.get(layer) ?? 0), 0)];
    }),
  );
}

/** `LayersSize` of `system df`: every layer once. */
export function layersSize(layers: Pick<LayerStore, "list">): number {
  return layers.list().reduce((sum, { size }) => sum + size, 0);
}
