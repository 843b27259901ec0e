/** What the transfers stand on. */
import type { EventBus } from "../base/events.ts";
import type { ImageStore } from "../image/store.ts";
import type { LayerStore } from "../layer/store.ts";

export type TransferParts = {
  readonly layers: LayerStore;
  readonly images: ImageStore;
  readonly events: EventBus;
  /** A directory of ours alone; what an earlier life left in it goes at the first load. */
  readonly stagingRoot: string;
};
