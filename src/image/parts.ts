/** What the image store stands on, and the name under which an image holds its layers. */
import type { ImageId } from "../base/digest.ts";
import type { EventBus } from "../base/events.ts";
import type { LayerStore } from "../layer/store.ts";
import type { Database } from "../metadata/database.ts";

export type ImageStoreParts = {
  readonly database: Database;
  readonly layers: LayerStore;
  readonly events: EventBus;
};

export const ownerOf = (id: ImageId): string => `image:${id}`;
