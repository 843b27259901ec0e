/** Events of images with Docker's attributes: the image's labels, and `name`. */
import type { ImageId } from "../base/digest.ts";
import type { EventBus } from "../base/events.ts";
import type { ImageConfig } from "../base/oci.ts";

export type ImageAction = "delete" | "import" | "load" | "pull" | "push" | "save" | "tag" | "untag";

export type EventSubject = {
  readonly id: ImageId;
  /** Undefined once the image is gone: labels are then left out, as Docker does. */
  readonly config: ImageConfig | undefined;
  /** Familiar reference of `tag`; the id otherwise. */
  readonly name?: string;
};

export function emitImageEvent(events: EventBus, action: ImageAction, { id, config, name = id }: EventSubject): void {
  events.emit("image", action, id, { ...config?.config?.Labels, name });
}
