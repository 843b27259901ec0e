/** What `docker images` shows: heads and tagged images, newest first, by Docker's filters. */
import { parseTimestamp } from "../base/timestamp.ts";
import { createdTime } from "./created.ts";
import { type Filters, flagOf, matchesLabels, matchingReferences, refuseUnknown, singleOf } from "./filter.ts";
import type { Image, ImageStore } from "./store.ts";

export type ListOptions = {
  /** Untagged images with children too. */
  readonly all: boolean;
  readonly filters: Filters;
};

/** `references`: those to show, which the `reference` filter may have narrowed. */
export type ListedImage = { readonly image: Image; readonly references: readonly string[] };

const known = ["dangling", "label", "label!", "before", "since", "reference", "until"];

/** Throws invalid_argument for unknown filters, not_found for unknown images of `before` and `since`. */
export function listImages(store: ImageStore, { all, filters }: ListOptions): readonly ListedImage[] {
  refuseUnknown(filters, known);
  const dangling = flagOf(filters, "dangling");
  const patterns = filters.reference ?? [];
  const listed: ListedImage[] = [];
  for (const image of inTime(store, filters)) {
    if (!matchesLabels(image, filters)) continue;
    const references = patterns.length === 0 ? image.references : matchingReferences(image.references, patterns);
    if (references.length === 0) {
      if (dangling === false || patterns.length > 0) continue;
      if (!(all && dangling !== true) && store.children(image.id).length > 0) continue;
    } else if (dangling === true && references.some((name) => !name.includes("@"))) continue;
    listed.push({ image, references });
  }
  return listed.sort((one, other) => timeOf(other.image) - timeOf(one.image) || compare(one.image.id, other.image.id));
}

function inTime(store: ImageStore, filters: Filters): readonly Image[] {
  const ends = [
    ...(filters.before ?? []).map((name) => timeOf(store.get(name))),
    ...[singleOf(filters, "until")].flatMap((text) => (text === undefined ? [] : [parseTimestamp(text)])),
  ];
  const starts = (filters.since ?? []).map((name) => timeOf(store.get(name)));
  const before = Math.min(...ends);
  const since = Math.max(...starts);
  return store.list().filter((image) => timeOf(image) < before && timeOf(image) > since);
}

const timeOf = (image: Image): number => createdTime(image.config.created) ?? 0;
const compare = (one: string, other: string): number => (one < other ? -1 : 1);
