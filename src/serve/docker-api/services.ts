/** What the server serves: the engine hands these in. Each route file takes only the few methods that it needs. */
import type { EventBus } from "../../base/events.ts";
import type { Builder } from "../../build/builder.ts";
import type { ContainerService } from "../../container/container.ts";
import type { ImageStore } from "../../image/store.ts";
import type { LayerStore } from "../../layer/store.ts";
import type { NetworkStore } from "../../network/store.ts";
import type { TransferService } from "../../transfer/transfer.ts";
import type { VolumeStore } from "../../volume/store.ts";
import type { VolumeVerbs } from "../../volume/verbs.ts";
import type { ImageViews } from "./routes/images.ts";
import type { EngineFacts } from "./system-services.ts";

export type DockerApiServices = {
  readonly containers: ContainerService;
  readonly images: ImageStore;
  readonly imageViews: ImageViews;
  readonly layers: LayerStore;
  readonly volumes: VolumeStore;
  readonly volumeVerbs: VolumeVerbs;
  readonly networks: NetworkStore;
  readonly transfer: TransferService;
  readonly builder: Builder;
  readonly events: EventBus;
  readonly facts: EngineFacts;
};
