/**
 * Containers' layers: a new one over the same image, made what the old one is (archive/match-tree.ts: links, holes,
 * devices, attributes, times), looked at again, synced, and only then recorded, with a size that was measured.
 */
import { archiveTasks } from "../archive/task-url.ts";
import type { Ground, MigrateOptions, Sides } from "./migration.ts";
import { type ContainerLayer, containerLayers, storageOptions } from "./plan.ts";

/** Moves every container's layer that the target lacks; returns how many. */
export async function moveContainers(ground: Ground, sides: Sides, options: MigrateOptions): Promise<number> {
  const { database } = ground;
  const { source, target, targetDriver } = sides;
  const there = new Set(containerLayers(database, target.driverName).map(({ id }) => id));
  const missing = containerLayers(database, source.driverName).filter(({ id }) => !there.has(id));
  const keeps = new Set(targetDriver.traits.containerOptions);
  const asked = new Map(storageOptions(database, source.driverName).map(({ id, options: given }) => [id, given]));
  for (const [done, layer] of missing.entries()) {
    options.progress?.({ what: "container", name: layer.id, done, total: missing.length, bytes: 0, totalBytes: 0 });
    const given = Object.entries(asked.get(layer.id) ?? {}).filter(([key]) => keeps.has(key.toLowerCase()));
    await moveContainer(ground, sides, { ...layer, storageOptions: Object.fromEntries(given) });
  }
  return missing.length;
}

type Moving = ContainerLayer & { readonly storageOptions: Readonly<Record<string, string>> };

async function moveContainer({ pool }: Ground, { source, target, targetDriver }: Sides, moving: Moving): Promise<void> {
  const { id, top } = moving;
  await using view = await source.viewWritable(id);
  const { source: tree, base, upper, candidates } = view;
  const { wholeSeconds } = targetDriver.traits;
  await target.createWritable(id, top, {
    storageOptions: moving.storageOptions,
    statements: [],
    fill: async (path) => {
      const argument = { source: tree, target: path, base, upper, candidates, wholeSeconds };
      await pool.run<typeof argument, void>(archiveTasks, "matchTreeTask", argument);
    },
  });
  await target.writableSize(id);
}
