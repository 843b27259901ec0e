/** Sizes of `system df` and `images --shared-size`: what images share, and what all layers take. */
import { chainIdsOf, type ImageId } from "../base/digest.ts";
import type { LayerInfo, LayerStore } from "../layer/store.ts";
import type { Image } from "./store.ts";

/** Bytes of each image's layers that another of `images` has too, be it over other layers. */
export function sharedSizes(images: readonly Image[], layers: Pick<LayerStore, "list">): ReadonlyMap<ImageId, number> {
  const known = new Map(layers.list().map((layer) => [layer.chainId, layer]));
  const uses = new Map<string, number>();
  const chains = images.map(({ id, diffIds }) => ({
    id,
    chain: chainIdsOf(diffIds).flatMap((chainId) => known.get(chainId) ?? []),
  }));
  for (const { chain } of chains)
    for (const content of new Set(chain.map((layer) => layer.content))) uses.set(content, (uses.get(content) ?? 0) + 1);
  return new Map(
    chains.map(({ id, chain }) => {
      const shared = chain.filter(({ content }) => (uses.get(content) ?? 0) > 1);
      return [id, shared.reduce((sum, { size }) => sum + size, 0)];
    }),
  );
}

/** `LayersSize` of `system df`: everything that layers keep once. */
export const layersSize = (layers: Pick<LayerStore, "list">): number => bytesOf(layers.list());

/** What these layers take on disk. */
export function bytesOf(layers: readonly Pick<LayerInfo, "content" | "size">[]): number {
  const sizes = new Map(layers.map(({ content, size }) => [content, size]));
  return sizes.values().reduce((sum, size) => sum + size, 0);
}
