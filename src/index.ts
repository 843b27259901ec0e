/** The public face: the engine as a library, and the words of its contracts. */
export { EngineError, type ErrorCode } from "./base/errors.ts";
export type { EngineEvent, EventBus } from "./base/events.ts";
export type { Builder, BuildMessage, BuildOptions } from "./build/builder.ts";
export type { Container, ContainerService, HostConfig, NewContainer } from "./container/container.ts";
export { type Engine, type EngineOptions, openEngine } from "./engine.ts";
export type { Image, ImageStore } from "./image/store.ts";
export type { LayerInfo, LayerStore } from "./layer/store.ts";
export type { Network, NetworkStore } from "./network/store.ts";
export type { ImportOptions, LoadedImage, TransferService } from "./transfer/transfer.ts";
export type { NewVolume, Volume, VolumeDriverState, VolumeStore } from "./volume/store.ts";
export type { VolumeProgress, VolumeVerbs, VolumeWork } from "./volume/verbs.ts";
