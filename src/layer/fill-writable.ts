/**
 * What a writable layer begins with when it comes from elsewhere (another engine, another driver): a layer tar is
 * applied to its mounted tree in a pool worker. Nobody knows the writable yet; the caller removes it when this fails.
 */
import { rm } from "node:fs/promises";
import { archiveTasks } from "../archive/task-url.ts";
import type { LayerRef } from "../storage-driver/driver.ts";
import { type Parts, recipePath } from "./parts.ts";

/** Applies `tar` to the writable `layer`, which is made and not mounted. */
export async function fillWritable(parts: Parts, layer: LayerRef, tar: AsyncIterable<Uint8Array>): Promise<void> {
  // The applier writes a recipe too. Nothing of a writable is ever made again from one, and start-up sweeps what is left.
  const recipe = recipePath(parts, layer.id);
  try {
    await using tree = await parts.mounts.mount(await parts.driver.mounts(layer, "writable"));
    const argument = { root: tree.path, recipePath: recipe };
    await parts.pool.run<typeof argument, unknown>(archiveTasks, "applyLayerTask", argument, { input: tar });
  } finally {
    await rm(recipe, { force: true });
  }
}
