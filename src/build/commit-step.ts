/**
 * A step becomes an image: the child of the one before, with the step's layer (if it changed anything), its history
 * entry, and in `container_config` the command that the cache compares. Also the way back: a child that was made by the
 * same command from the same image, on this machine, is the step's result without doing it.
 */
import { digestOf, type ImageId } from "../base/digest.ts";
import type { HistoryEntry, ImageConfig, RunConfig } from "../base/oci.ts";
import { imageIdOf } from "../image/config.ts";
import type { Image, ImageStore } from "../image/store.ts";
import type { LayerStore, PendingLayer } from "../layer/store.ts";
import { hostArchitecture } from "../transfer/platform.ts";
import type { StageState } from "./stage-state.ts";

export type Step = {
  /** argv of a RUN, or `/bin/sh -c #(nop) ...` for what runs nothing. */
  readonly command: readonly string[];
  /** The config after the step. */
  readonly config: RunConfig;
};

type Stores = { readonly images: ImageStore; readonly layers: LayerStore };

/** Digest of the tar of nothing: such a layer is left out, and the history says so. */
const emptyTar = digestOf(new Uint8Array(1024));

/** Records the image. Takes the pending layer over: published, or given up. */
export async function commitStep(
  { images, layers }: Stores,
  state: StageState,
  { command, config, layer: made }: Step & { readonly layer?: PendingLayer | undefined },
): Promise<ImageId> {
  const pending = made === undefined ? [] : [made];
  try {
    const layer = made?.diffId === emptyTar ? undefined : made;
    const created = new Date().toISOString();
    const history: HistoryEntry = {
      created,
      ...(state.author === "" ? {} : { author: state.author }),
      created_by: command.join(" "),
      ...(layer === undefined ? { empty_layer: true } : {}),
    };
    const id = await put({ images, layers }, state, {
      command,
      config,
      history,
      layers: layer === undefined ? [] : [layer],
    });
    if (layer === undefined) await layers.abandon(pending);
    return id;
  } catch (error) {
    await layers.abandon(pending);
    throw error;
  }
}

type NewStep = Step & { readonly history: HistoryEntry; readonly layers: readonly (PendingLayer | string)[] };

/** A layer given by its diff ID is there already. */
async function put({ images, layers }: Stores, state: StageState, step: NewStep): Promise<ImageId> {
  const parent = state.imageId === undefined ? undefined : images.getById(state.imageId);
  const added = step.layers.map((layer) => (typeof layer === "string" ? layer : layer.diffId));
  const config: RunConfig = { ...step.config, Image: state.imageId ?? "" };
  const document: ImageConfig = {
    architecture: parent?.config.architecture ?? hostArchitecture,
    ...(parent?.config.variant === undefined ? {} : { variant: parent.config.variant }),
    ...(state.author === "" ? {} : { author: state.author }),
    config,
    container_config: { ...config, Cmd: step.command },
    created: step.history.created ?? "",
    history: [...(parent?.config.history ?? []), step.history],
    os: "linux",
    rootfs: { type: "layers", diff_ids: [...(parent?.diffIds ?? []), ...added] },
  };
  const bytes = JSON.stringify(document);
  const id = imageIdOf(bytes);
  await layers.publish(
    step.layers.filter((layer) => typeof layer !== "string"),
    images.putStatements({ id, bytes, parent: state.imageId, local: true }),
  );
  return id;
}

/**
 * The newest image that the same step made from the same image, or undefined. Only images made on this machine count:
 * one that was loaded may claim any history (CVE-2024-24557).
 */
export function findCached({ images }: Stores, state: StageState, step: Step): ImageId | undefined {
  const wanted = keyOf({ ...step.config, Cmd: step.command });
  const candidates = state.imageId === undefined ? images.list().filter(isRoot) : images.children(state.imageId);
  const matching = candidates.filter(
    ({ local, config }) => local && config.container_config !== undefined && keyOf(config.container_config) === wanted,
  );
  const [newest] = matching.sort((a, b) => createdOf(b) - createdOf(a));
  return newest?.id;
}

const isRoot = (image: Image): boolean => image.parent === undefined;
const createdOf = (image: Image): number => Date.parse(image.config.created ?? "") || 0;

/**
 * `--cache-from`: an image that the user trusts by name, wherever it was made. If its history goes on from ours with
 * the same command, its layer is the step's result.
 */
export async function restoreCached(
  stores: Stores,
  state: StageState,
  { step, sources }: { readonly step: Step; readonly sources: readonly string[] },
): Promise<ImageId | undefined> {
  const { images, layers } = stores;
  const parent = state.imageId === undefined ? undefined : images.getById(state.imageId);
  const before = parent?.config.history ?? [];
  for (const name of sources) {
    const source = images.find(name);
    const next = source?.config.history?.[before.length];
    if (source === undefined || next === undefined || next.created_by !== step.command.join(" ")) continue;
    const depth = parent?.diffIds.length ?? 0;
    const same =
      JSON.stringify(source.config.history?.slice(0, before.length)) === JSON.stringify(before) &&
      JSON.stringify(source.diffIds.slice(0, depth)) === JSON.stringify(parent?.diffIds ?? []);
    if (!same) continue;
    const diffId = source.diffIds[depth];
    const added = next.empty_layer === true || diffId === undefined ? [] : [diffId];
    return put({ images, layers }, state, { ...step, history: next, layers: added });
  }
  return undefined;
}

/** Members of a config that say nothing about the result. */
const ignored: ReadonlySet<string> = new Set(["Image", "Hostname", "Domainname", "ArgsEscaped"]);

/** Two configs with one key start the same container: empty and absent are alike, the order of members means nothing. */
function keyOf(config: RunConfig): string {
  const entries = Object.entries(config).filter(([name, value]) => !ignored.has(name) && !isEmpty(value));
  return JSON.stringify(sorted(Object.fromEntries(entries)));
}

const isEmpty = (value: unknown): boolean =>
  value === undefined ||
  value === null ||
  value === "" ||
  value === false ||
  (typeof value === "object" && Object.keys(value).length === 0);

function sorted(value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([key, item]) => [key, sorted(item)]));
}
