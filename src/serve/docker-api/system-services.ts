/** What the answers about the whole engine are made of. */
import type { Container, ContainerService } from "../../container/container.ts";
import type { ImageStore } from "../../image/store.ts";
import type { LayerStore } from "../../layer/store.ts";
import type { VolumeStore } from "../../volume/store.ts";
import type { ImageViews } from "./routes/images.ts";

export type SystemServices = {
  readonly containers: Pick<ContainerService, "list" | "size">;
  readonly images: Pick<ImageStore, "list" | "find">;
  readonly imageViews: Pick<ImageViews, "list" | "sharedSizes" | "layersSize">;
  readonly layers: Pick<LayerStore, "driverName" | "driverStatus">;
  readonly volumes: Pick<VolumeStore, "list" | "usage" | "references" | "drivers">;
  readonly facts: EngineFacts;
};

/** What only the composition root knows of the engine. */
export type EngineFacts = {
  /** Stays with the data root. */
  readonly id: string;
  readonly dataRoot: string;
  /** Program -> version, for `docker version`. */
  readonly programs: Readonly<Record<string, string>>;
  readonly debug: boolean;
  readonly labels: readonly string[];
  readonly insecureRegistries: readonly string[];
  readonly warnings: readonly string[];
};

export function allContainers(containers: Pick<ContainerService, "list">): readonly Container[] {
  return containers.list({ all: true, filters: new Map() });
}
