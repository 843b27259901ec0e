/**
 * Taking away layers that nobody needs: no owner, no lease, no child, no container. What is garbage is computed from
 * the rows; the transaction that marks it checks every condition again, so a hold that was taken meanwhile wins and the
 * computation is repeated. Data leave the driver's sight after the record says `removing`.
 */
import { rm } from "node:fs/promises";
import { isError } from "../base/errors.ts";
import type { Leases } from "./leases.ts";
import { type Parts, recipePath } from "./parts.ts";
import type { LayerRow } from "./records.ts";
import type { LayerInfo } from "./store.ts";
import type { Sweeper } from "./sweeper.ts";

/** How often a hold may come between before this call leaves the rest to the next. */
const attempts = 5;

/** Removes every unneeded layer; returns the image layers that went, topmost first. */
export async function collect(parts: Parts, leases: Leases, sweeper: Sweeper): Promise<readonly LayerInfo[]> {
  // What is owed may still stand on a layer.
  await sweeper.settleDebts();
  for (let attempt = 1; ; attempt++) {
    const garbage = findGarbage(parts, leases);
    const layers = [...garbage.inits, ...garbage.layers.map(({ id }) => id)];
    if (layers.length + garbage.diffs.length === 0) return [];
    try {
      const bytes = goneBytes(parts, garbage);
      await leases.doom([...layers, ...garbage.diffs], () => remove(parts, { layers, diffs: garbage.diffs }, sweeper));
      sweeper.add(bytes);
      return garbage.layers.map(({ id: _, diff: __, ...info }) => info);
    } catch (error) {
      if (!isError(error, "conflict") || attempt === attempts) throw error;
    }
  }
}

type Garbage = {
  readonly layers: readonly LayerRow[];
  readonly inits: readonly string[];
  readonly diffs: readonly string[];
};

function findGarbage(parts: Parts, leases: Leases): Garbage {
  const { records } = parts;
  const layers = records.layers();
  const byChain = new Map(layers.map((layer) => [layer.chainId, layer]));
  const held = records.heldLayers();
  const needed = new Set<string>();
  for (const layer of layers) {
    if (!held.has(layer.id) && !leases.has(layer.id)) continue;
    for (let next: LayerRow | undefined = layer; next !== undefined && !needed.has(next.id); ) {
      needed.add(next.id);
      next = next.parent === undefined ? undefined : byChain.get(next.parent);
    }
  }
  const garbage = layers.filter((layer) => !needed.has(layer.id));
  const ids = new Set(garbage.map(({ id }) => id));
  const inits = records.inits().filter(({ top }) => top !== undefined && ids.has(top));
  return {
    layers: childrenFirst(garbage),
    inits: inits.map(({ id }) => id),
    diffs: unusedDiffs(parts, leases, ids),
  };
}

/** What goes from the disk: shared bytes once, and only with their last layer. */
function goneBytes({ records }: Parts, { layers }: Garbage): number {
  const going = new Set(layers.map(({ id }) => id));
  const kept = new Set(records.layers().flatMap(({ id, content }) => (going.has(id) ? [] : [content])));
  const sizes = new Map(layers.flatMap(({ content, size }) => (kept.has(content) ? [] : [[content, size] as const])));
  return sizes.values().reduce((sum, size) => sum + size, 0);
}

/** Diffs that no layer stands on, once `going` are gone. */
function unusedDiffs({ diffRecords }: Parts, leases: Leases, going: ReadonlySet<string>): string[] {
  const used = new Set(diffRecords.uses().flatMap(({ diff, layer }) => (going.has(layer) ? [] : [diff])));
  return diffRecords.ready().flatMap(({ id }) => (used.has(id) || leases.has(id) ? [] : [id]));
}

function childrenFirst(layers: readonly LayerRow[]): LayerRow[] {
  const byChain = new Map(layers.map((layer) => [layer.chainId, layer]));
  const depths = new Map<LayerRow, number>();
  const depthOf = (layer: LayerRow): number => {
    const path: LayerRow[] = [];
    let next: LayerRow | undefined = layer;
    for (
      ;
      next !== undefined && !depths.has(next);
      next = next.parent === undefined ? undefined : byChain.get(next.parent)
    )
      path.push(next);
    let depth = next === undefined ? 0 : (depths.get(next) ?? 0);
    for (const step of path.toReversed()) depths.set(step, ++depth);
    return depth;
  };
  for (const layer of layers) depthOf(layer);
  return layers.toSorted((a, b) => (depths.get(b) ?? 0) - (depths.get(a) ?? 0));
}

type Going = { readonly layers: readonly string[]; readonly diffs: readonly string[] };

async function remove(parts: Parts, { layers, diffs }: Going, sweeper: Sweeper): Promise<void> {
  const { records, diffRecords, driver } = parts;
  await records.transact([
    ...layers.map((id) => records.removingLayer(id)),
    ...diffs.map((id) => diffRecords.removing(id)),
  ]);
  const ids = [...layers, ...diffs];
  await sweeper.carryOut(ids.join(), async () => {
    for (const id of ids) {
      await driver.remove(id);
      await rm(recipePath(parts, id), { force: true });
    }
    const forgotten = [
      ...layers.map((id) => records.forget({ table: "layer_layers", id })),
      ...diffs.map((id) => records.forget({ table: "layer_diffs", id })),
    ];
    await records.transact(forgotten, { durable: false });
  });
}
