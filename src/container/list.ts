/** `ps`: which containers, newest first. */
import type { ImageStore } from "../image/store.ts";
import type { Container, ListOptions } from "./container.ts";
import type { Context } from "./context.ts";
import { listPredicate } from "./filter.ts";

/** Every image built here from `image`, and itself: what `ancestor` means. */
export function ancestry(images: ImageStore, image: string): ReadonlySet<string> {
  const found = images.find(image);
  const ids = new Set<string>();
  const pending = found === undefined ? [] : [found];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    if (ids.has(next.id)) continue;
    ids.add(next.id);
    pending.push(...images.children(next.id));
  }
  return ids;
}

const newestFirst = (one: Container, other: Container): number =>
  one.created < other.created ? 1 : one.created > other.created ? -1 : one.id.localeCompare(other.id);

/** Throws invalid_argument for an unknown filter. */
export function listContainers(context: Context, options: ListOptions): readonly Container[] {
  const passes = listPredicate(options.filters, {
    find: (nameOrId) => context.entries.get(nameOrId).view(),
    ancestors: (image) => ancestry(context.images, image),
  });
  const limit = options.limit !== undefined && options.limit > 0 ? options.limit : Number.POSITIVE_INFINITY;
  // Asking for a status, or for the last few, is asking for more than what runs.
  const all = options.all || limit !== Number.POSITIVE_INFINITY || (options.filters.get("status") ?? []).length > 0;
  const found = context.entries
    .all()
    .filter((entry) => (all || entry.isRunning) && entry.phase.kind !== "removed")
    .map((entry) => entry.view())
    .filter(passes)
    .sort(newestFirst);
  return found.slice(0, limit);
}
