/**
 * `docker commit`: what the container changed becomes a layer, and its config, with the request's changes, an image.
 * Layer, image and tag are acknowledged together.
 */

import { digestOf, type ImageId } from "../base/digest.ts";
import type { HistoryEntry, ImageConfig, RunConfig } from "../base/oci.ts";
import { canonicalName, familiarName, parseReference, withDefaultTag } from "../base/reference.ts";
import { applyChanges } from "../image/change.ts";
import { imageIdOf } from "../image/config.ts";
import type { Image } from "../image/store.ts";
import type { PendingLayer } from "../layer/store.ts";
import type { CommitOptions } from "./container.ts";
import { type Context, emit, now, timestamp } from "./context.ts";
import type { Entry } from "./entry.ts";
import { mergeConfigs } from "./merge-config.ts";
import { holdContainer, unpauseContainer } from "./pause.ts";

/** Digest of the tar of nothing: such a layer is left out, and the history says so. */
const emptyTar = digestOf(new Uint8Array(1024));

export async function commitContainer(context: Context, entry: Entry, options: CommitOptions): Promise<ImageId> {
  const { imageId } = entry.record;
  const parent = imageId === undefined ? undefined : context.images.getById(imageId);
  const reference =
    options.reference === undefined ? undefined : canonicalName(withDefaultTag(parseReference(options.reference)));
  const config = mergeConfigs(entry.record.config, await applyChanges(options.config ?? {}, options.changes));
  const layer = await registerChanges(context, entry, { top: parent?.top, pause: options.pause });
  const kept = layer === undefined ? [] : [layer];
  const bytes = JSON.stringify(imageDocument(entry, parent, { config, layer, options }));
  const id = imageIdOf(bytes);
  try {
    await context.layers.publish(kept, [
      ...context.images.putStatements({ id, bytes, parent: imageId, local: true }),
      ...(reference === undefined ? [] : context.images.tagStatements(reference, id)),
    ]);
  } catch (error) {
    await context.layers.abandon(kept);
    throw error;
  }
  const name = reference === undefined ? "" : familiarName(reference);
  emit(context, entry, "commit", { comment: options.comment, imageID: id, imageRef: name });
  if (reference !== undefined) context.events.emit("image", "tag", id, { ...config.Labels, name });
  return id;
}

type Base = { readonly top: Image["top"]; readonly pause: boolean };

/** The container stands still while its changes are read. Undefined when there are none. */
async function registerChanges(context: Context, entry: Entry, base: Base): Promise<PendingLayer | undefined> {
  const paused = base.pause && entry.run !== undefined && !entry.run.paused;
  if (paused) await holdContainer(context, entry);
  try {
    const layer = await context.layers.register(base.top, context.layers.changesTar(entry.id));
    if (layer.diffId !== emptyTar) return layer;
    await context.layers.abandon([layer]);
    return undefined;
  } finally {
    // What was killed meanwhile needs no thawing.
    if (paused && entry.run?.paused === true) await unpauseContainer(context, entry);
  }
}

type NewImage = {
  readonly config: RunConfig;
  readonly layer: PendingLayer | undefined;
  readonly options: CommitOptions;
};

function imageDocument(entry: Entry, parent: Image | undefined, made: NewImage): ImageConfig {
  const { config, layer, options } = made;
  const { record } = entry;
  const created = timestamp(now());
  const history: HistoryEntry = {
    created,
    ...(options.author === "" ? {} : { author: options.author }),
    created_by: (record.config.Cmd ?? []).join(" "),
    ...(options.comment === "" ? {} : { comment: options.comment }),
    ...(layer === undefined ? { empty_layer: true } : {}),
  };
  const diffIds = [...(parent?.diffIds ?? []), ...(layer === undefined ? [] : [layer.diffId])];
  return {
    architecture: parent?.config.architecture ?? hostArchitecture(),
    ...(parent?.config.variant === undefined ? {} : { variant: parent.config.variant }),
    ...(options.author === "" ? {} : { author: options.author }),
    ...(options.comment === "" ? {} : { comment: options.comment }),
    config,
    container: record.id,
    container_config: record.config,
    created,
    history: [...(parent?.config.history ?? []), history],
    os: parent?.config.os ?? "linux",
    rootfs: { type: "layers", diff_ids: diffIds },
  } as ImageConfig;
}

/** Go's name of this machine's architecture. */
function hostArchitecture(): string {
  const names: Readonly<Record<string, string>> = { x64: "amd64", ia32: "386", loong64: "loong64" };
  return names[process.arch] ?? process.arch;
}
