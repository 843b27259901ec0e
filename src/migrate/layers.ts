/**
 * Image layers: each tar is made again from the source, which proves its digest while it streams, and unpacked into the
 * target, which proves it again on arrival. Parents come first; each layer is durable before the next begins, and who
 * needs it holds it from then on.
 */
import type { ChainId } from "../base/digest.ts";
import type { LayerInfo } from "../layer/store.ts";
import type { Ground, MigrateOptions, Sides } from "./migration.ts";
import { containerLayers, ownersOf } from "./plan.ts";

export type MovedLayers = { readonly layers: number; readonly layersThere: number; readonly bytes: number };

/** Moves every layer that an image or a container needs and the target lacks. */
export async function moveLayers({ database }: Ground, sides: Sides, options: MigrateOptions): Promise<MovedLayers> {
  const { source, target } = sides;
  const owners = ownersOf(database, source.driverName);
  const owned = owners.map(({ chainId }) => chainId);
  const used = containerLayers(database, source.driverName).flatMap(({ top }) => (top === undefined ? [] : [top]));
  const needed = new Map<ChainId, LayerInfo>();
  for (const top of new Set([...owned, ...used]))
    for (const layer of source.chain(top)) needed.set(layer.chainId, layer);
  const missing = [...needed.values()].filter(({ chainId }) => target.find(chainId) === undefined);
  const totalBytes = missing.reduce((sum, { tarSize }) => sum + tarSize, 0);
  let bytes = 0;
  for (const [done, layer] of missing.entries()) {
    const tell = (): void =>
      options.progress?.({ what: "layer", name: layer.diffId, done, total: missing.length, bytes, totalBytes });
    tell();
    const counted = count(source.tar(layer.chainId), (length) => {
      bytes += length;
      tell();
    });
    const arrived = await target.register(layer.parent, counted, { expected: layer.diffId });
    const held = owners.filter(({ chainId }) => chainId === layer.chainId);
    await target.publish([arrived], []);
    await database.transact(held.flatMap(({ owner, chainId }) => target.holdStatements(owner, chainId)));
  }
  return { layers: missing.length, layersThere: needed.size - missing.length, bytes };
}

async function* count(
  tar: AsyncIterable<Uint8Array>,
  add: (length: number) => void,
): AsyncGenerator<Uint8Array, void, void> {
  for await (const chunk of tar) {
    add(chunk.length);
    yield chunk;
  }
}
