/**
 * Filling one stage from a tar: the driver's stage is mounted, a worker applies the tar to the merged tree and hashes
 * it, the stage is unmounted and fixed. The caller has recorded the intent, and erases the stage when this fails.
 */
import type { Settled } from "../archive/settle-diff.ts";
import { archiveTasks } from "../archive/task-url.ts";
import type { LayerRef } from "../storage-driver/driver.ts";
import { withEarlySync } from "./early-sync.ts";
import { type Parts, recipePath, refOf } from "./parts.ts";

/** What `applyLayerTask` found: `size` counts regular files, each inode once. */
export type Applied = { readonly diffId: string; readonly tarSize: number; readonly size: number };

type Argument = {
  readonly root: string;
  readonly recipePath: string;
  readonly escapeXattrs?: { readonly from: string; readonly to: string };
  readonly refusedXattrs?: readonly string[];
  readonly keepAttributes?: boolean;
};

export type Source = { readonly tar: AsyncIterable<Uint8Array>; readonly signal?: AbortSignal };

/** What a diff is put over, and its facts. */
export type Place = { readonly below: string | undefined; readonly facts: Uint8Array };

/** Stages and commits `layer` over a diff, with what that lacks on its chain; on a misfit the stage stays. */
export async function settle(parts: Parts, layer: LayerRef, { below, facts }: Place): Promise<Settled> {
  const { driver, mounts, pool } = parts;
  const stage = await driver.stage(layer);
  let settled: Settled;
  {
    const view = below === undefined ? undefined : await driver.mounts(refOf(parts, below), "layer");
    await using lower = view && (await mounts.mount(view));
    await using tree = await mounts.mount(stage.mounts);
    const argument = { facts, below: lower?.path, root: tree.path };
    settled = await pool.run<typeof argument, Settled>(archiveTasks, "settleDiffTask", argument);
  }
  if (settled.fits) await driver.commit(layer);
  return settled;
}

/** Stages, fills and commits `layer`. */
export async function unpack(parts: Parts, layer: LayerRef, { tar, signal }: Source): Promise<Applied> {
  const stage = await parts.driver.stage(layer);
  const applied = await fill();
  signal?.throwIfAborted();
  await parts.driver.commit(layer);
  return applied;

  async function fill(): Promise<Applied> {
    await using tree = await parts.mounts.mount(stage.mounts);
    const argument: Argument = {
      root: tree.path,
      recipePath: recipePath(parts, layer.id),
      ...(stage.escapeXattrs === undefined ? {} : { escapeXattrs: stage.escapeXattrs }),
      ...(stage.refusedXattrs === undefined ? {} : { refusedXattrs: stage.refusedXattrs }),
      ...(parts.driver.traits.forgetsAttributes === true ? { keepAttributes: true } : {}),
    };
    return await parts.pool.run<Argument, Applied>(archiveTasks, "applyLayerTask", argument, {
      input: withEarlySync(parts.driver.home, tar),
      ...(signal ? { signal } : {}),
    });
  }
}
