/** What the builder stands on, and what one build carries along. */
import type { EventBus } from "../base/events.ts";
import type { ContainerService } from "../container/container.ts";
import type { Pool } from "../host/pool.ts";
import type { ImageStore } from "../image/store.ts";
import type { LayerStore } from "../layer/store.ts";
import type { TransferService } from "../transfer/transfer.ts";
import type { BuildArgs } from "./build-args.ts";
import type { BuildMessage, BuildOptions } from "./builder.ts";
import type { StageResult } from "./stage-state.ts";

export type BuilderParts = {
  readonly containers: ContainerService;
  readonly images: ImageStore;
  readonly layers: LayerStore;
  readonly transfer: TransferService;
  readonly events: EventBus;
  readonly pool: Pool;
  /** Contexts are unpacked below it. */
  readonly stagingRoot: string;
};

export type Build = {
  readonly parts: BuilderParts;
  readonly options: BuildOptions;
  readonly tell: (message: BuildMessage) => void;
  /** Directory of the unpacked context. */
  readonly context: string;
  readonly args: BuildArgs;
  /** Stages that are built, in order. */
  readonly done: StageResult[];
};

/** A line of the build's output. */
export const say = (build: Build, line: string): void => build.tell({ stream: `${line}\n` });

/** Twelve digits, as everywhere in Docker's output. */
export const shortId = (id: string): string => id.replace(/^sha256:/, "").slice(0, 12);
