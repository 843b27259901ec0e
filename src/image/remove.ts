/** Carries a removal plan out: one transaction, then the layers that nobody holds any more, then the events. */
import { type ChainId, chainIdsOf, type ImageId } from "../base/digest.ts";
import { familiarName } from "../base/reference.ts";
import type { Statement } from "../metadata/database.ts";
import { emitImageEvent } from "./event.ts";
import { type ImageStoreParts, ownerOf } from "./parts.ts";
import { planRemoval, type RemovalStep } from "./removal-plan.ts";
import type { Image, ImageStore, RemovedImage, RemoveImageOptions } from "./store.ts";

type Request = { readonly typed: string; readonly options: RemoveImageOptions };

/** Throws not_found, or conflict in Docker's words. Must not run twice at once. */
export async function removeImage(
  store: ImageStore,
  parts: ImageStoreParts,
  { typed, options }: Request,
): Promise<readonly RemovedImage[]> {
  const first = store.get(typed);
  const steps = planRemoval(viewOf(store), { typed, id: first.id }, options);
  const deleted = steps.filter((step) => step.kind === "delete").map(({ id }) => store.getById(id));
  await parts.database.transact(steps.flatMap((step) => statementsOf(step, parts)));
  for (const step of steps) tell(step, first, parts);
  if (deleted.length === 0) return steps.flatMap((step) => recordOf(step));
  const collected = new Set((await parts.layers.collect()).map((layer) => layer.chainId));
  const layers = layersByImage(deleted, collected);
  return steps.flatMap((step) => [
    ...recordOf(step),
    ...(step.kind === "delete" ? (layers.get(step.id) ?? []) : []).map((chainId) => ({ deleted: chainId })),
  ]);
}

function viewOf(store: ImageStore): Parameters<typeof planRemoval>[0] {
  return {
    references: (id) => store.getById(id).references,
    children: (id) => store.children(id).map((child) => child.id),
    parent: (id) => store.getById(id).parent,
  };
}

/** The counts make the transaction fail when something else changed the same rows since the plan was made. */
function statementsOf(step: RemovalStep, { layers }: ImageStoreParts): readonly Statement[] {
  if (step.kind === "untag")
    return [
      {
        sql: "DELETE FROM image_reference WHERE name = ? AND image = ?",
        parameters: [step.reference, step.id],
        changes: 1,
      },
    ];
  return [
    ...layers.releaseStatements(ownerOf(step.id)),
    { sql: "DELETE FROM image WHERE id = ?", parameters: [step.id], changes: 1 },
  ];
}

function recordOf(step: RemovalStep): RemovedImage[] {
  return [step.kind === "untag" ? { untagged: familiarName(step.reference) } : { deleted: step.id }];
}

function tell(step: RemovalStep, first: Image, { events }: ImageStoreParts): void {
  if (step.kind === "delete") emitImageEvent(events, "delete", { id: step.id, config: undefined });
  else if (step.event) emitImageEvent(events, "untag", { id: step.id, config: first.config });
}

/** Each collected layer goes with the last of the deleted images that held it, topmost first. */
function layersByImage(
  images: readonly Image[],
  collected: ReadonlySet<ChainId>,
): ReadonlyMap<ImageId, readonly ChainId[]> {
  const told = new Set<ChainId>();
  const found = new Map<ImageId, readonly ChainId[]>();
  for (const { id, diffIds } of images.toReversed()) {
    const chain = chainIdsOf(diffIds).filter((chainId) => collected.has(chainId) && !told.has(chainId));
    for (const chainId of chain) told.add(chainId);
    found.set(id, chain.toReversed());
  }
  return found;
}
