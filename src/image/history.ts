/** `docker history`: a row for each instruction, newest first; only images that exist here have an id of their own. */
import { chainIdsOf } from "../base/digest.ts";
import { familiarName } from "../base/reference.ts";
import type { LayerStore } from "../layer/store.ts";
import { createdSeconds } from "./created.ts";
import type { Image, ImageStore } from "./store.ts";

/** As in `GET /images/{name}/history`. */
export type HistoryRow = {
  readonly Id: string;
  /** Seconds since the epoch. */
  readonly Created: number;
  readonly CreatedBy: string;
  readonly Tags: readonly string[] | null;
  readonly Size: number;
  readonly Comment: string;
};

export type HistoryParts = {
  readonly images: Pick<ImageStore, "find">;
  readonly layers: Pick<LayerStore, "find">;
};

export function historyOf(image: Image, { images, layers }: HistoryParts): readonly HistoryRow[] {
  const rows = baseRows(image, layers);
  let local: Image | undefined = image;
  return rows.map((row) => {
    if (local === undefined) return row;
    const { id, parent } = local;
    const tags = local.references.filter((name) => !name.includes("@")).map((name) => familiarName(name));
    local = parent === undefined ? undefined : images.find(parent);
    return { ...row, Id: id, Tags: tags.length === 0 ? null : tags };
  });
}

function baseRows({ config, diffIds }: Image, layers: Pick<LayerStore, "find">): HistoryRow[] {
  const chain = chainIdsOf(diffIds);
  let at = 0;
  const rows = (config.history ?? []).map((entry): HistoryRow => {
    const layer = entry.empty_layer === true ? undefined : chain[at++];
    return {
      Id: "<missing>",
      Created: createdSeconds(entry.created),
      CreatedBy: entry.created_by ?? "",
      Tags: null,
      Size: layer === undefined ? 0 : (layers.find(layer)?.size ?? 0),
      Comment: entry.comment ?? "",
    };
  });
  return rows.toReversed();
}
