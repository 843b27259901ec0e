/** `docker image prune`: dangling images, or all that no container uses, by Docker's filters. */
import { isError } from "../base/errors.ts";
import { parseTimestamp } from "../base/timestamp.ts";
import type { LayerInfo, LayerStore } from "../layer/store.ts";
import { createdTime } from "./created.ts";
import { type Filters, flagOf, matchesLabels, refuseUnknown, singleOf } from "./filter.ts";
import { bytesOf } from "./sizes.ts";
import type { Image, ImageStore, RemovedImage, RemoveImageOptions } from "./store.ts";

export type PruneOptions = {
  /** `dangling` (default true; false: everything unused), `label`, `label!`, `until`. */
  readonly filters: Filters;
  readonly usedBy: RemoveImageOptions["usedBy"];
  readonly signal?: AbortSignal;
};

export type PrunedImages = {
  readonly removed: readonly RemovedImage[];
  /** Bytes of the layers that went. */
  readonly reclaimed: number;
};

export type PruneParts = { readonly images: ImageStore; readonly layers: Pick<LayerStore, "list"> };

/** What is in use stays, without a word. */
export async function pruneImages(
  { images, layers }: PruneParts,
  { filters, usedBy, signal }: PruneOptions,
): Promise<PrunedImages> {
  refuseUnknown(filters, ["dangling", "label", "label!", "until"]);
  const danglingOnly = flagOf(filters, "dangling") ?? true;
  const known = new Map<string, LayerInfo>(layers.list().map((layer) => [layer.chainId, layer]));
  const removed: RemovedImage[] = [];
  for (const name of candidates(images, filters).flatMap((image) => namesToRemove(image, danglingOnly))) {
    signal?.throwIfAborted();
    removed.push(...(await removeUnused(images, name, usedBy)));
  }
  const gone = removed.flatMap((item) => ("deleted" in item ? (known.get(item.deleted) ?? []) : []));
  const kept = new Set(layers.list().map(({ content }) => content));
  return { removed, reclaimed: bytesOf(gone.filter(({ content }) => !kept.has(content))) };
}

function candidates(images: ImageStore, filters: Filters): readonly Image[] {
  const until = singleOf(filters, "until");
  const limit = until === undefined ? undefined : parseTimestamp(until);
  return images.list().filter((image) => {
    if (image.references.length === 0 && images.children(image.id).length > 0) return false;
    const created = createdTime(image.config.created);
    if (limit !== undefined && (created === undefined || created > limit)) return false;
    return matchesLabels(image, filters);
  });
}

function namesToRemove({ id, references }: Image, danglingOnly: boolean): readonly string[] {
  if (references.length === 0) return [id];
  const tagged = references.some((name) => !name.includes("@"));
  return danglingOnly && tagged ? [] : references;
}

async function removeUnused(
  images: ImageStore,
  name: string,
  usedBy: RemoveImageOptions["usedBy"],
): Promise<readonly RemovedImage[]> {
  try {
    return await images.remove(name, { force: false, prune: true, usedBy });
  } catch (error) {
    if (isError(error, "conflict") || isError(error, "not_found")) return [];
    throw error;
  }
}
