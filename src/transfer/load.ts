/**
 * `docker load`: the images of an archive, each acknowledged in one step with its layers and tags. What was loaded
 * before a failure stays, as with Docker; of the image that failed nothing does.
 */
import { decompress } from "../archive/decompress.ts";
import { TarReader } from "../archive/read-tar.ts";
import { type ChainId, chainIdOf, type DiffId, type ImageId } from "../base/digest.ts";
import { EngineError } from "../base/errors.ts";
import { familiarName } from "../base/reference.ts";
import { imageIdOf, type ParsedConfig, parseImageConfig } from "../image/config.ts";
import { emitImageEvent } from "../image/event.ts";
import type { PendingLayer } from "../layer/store.ts";
import { ArchiveMembers } from "./archive-members.ts";
import { type ArchivedImage, jsonLimit, readManifest } from "./load-manifest.ts";
import type { TransferParts } from "./parts.ts";
import { prepareLayers, wrongDiff } from "./prepare-layers.ts";
import { countedBytes } from "./progress.ts";
import type { SpoolRoot } from "./spool.ts";
import type { LoadedImage } from "./transfer.ts";

export type LoadOptions = {
  readonly progress: (message: object) => void;
  readonly signal: AbortSignal | undefined;
};

export type Load = Pick<TransferParts, "layers" | "images" | "events"> &
  LoadOptions & { readonly members: ArchiveMembers };

export async function loadArchive(
  parts: Omit<TransferParts, "stagingRoot"> & { readonly spools: SpoolRoot },
  archive: AsyncIterable<Uint8Array>,
  options: LoadOptions,
): Promise<readonly LoadedImage[]> {
  await using cleanup = new AsyncDisposableStack();
  const spool = cleanup.use(await parts.spools.open());
  const reader = new TarReader(decompress(archive));
  cleanup.defer(() => reader.close());
  const members = new ArchiveMembers(reader, spool, options.signal);
  const archived = await readManifest(members);
  members.expect(archived.flatMap(({ config, layers }) => [config, ...layers]));
  const loaded: LoadedImage[] = [];
  for (const image of archived) loaded.push(...(await loadImage({ ...parts, ...options, members }, image)));
  return loaded;
}

async function loadImage(load: Load, image: ArchivedImage): Promise<readonly LoadedImage[]> {
  const bytes = await load.members.text(image.config, jsonLimit);
  const id = imageIdOf(bytes);
  if (image.configDigest !== undefined && image.configDigest !== id)
    throw new EngineError("data_loss", `the config of image ${image.configDigest} has another digest`);
  const parsed = parseImageConfig(bytes);
  checkImage(image, parsed);
  const pending: PendingLayer[] = [];
  // A layer that is unpacked already is found by its digest when it is registered.
  await using _ = await prepareLayers(load, image, parsed.diffIds);
  try {
    for (const [index, diffId] of parsed.diffIds.entries())
      pending.push(
        await loadLayer(load, { index, diffId, parent: pending.at(-1)?.chainId, name: image.layers[index] ?? "" }),
      );
    load.signal?.throwIfAborted();
    const renamed = renamedTags(load, image.tags, id);
    await load.layers.publish(pending, [
      ...load.images.putStatements({ id, bytes, local: false }),
      ...image.tags.flatMap((tag) => load.images.tagStatements(tag, id)),
    ]);
    for (const message of renamed) load.progress(message);
  } catch (error) {
    await load.layers.abandon(pending);
    throw error;
  }
  emitImageEvent(load.events, "load", { id, config: parsed.config });
  return announce(load, image.tags, id);
}

function checkImage({ layers }: ArchivedImage, { config, diffIds }: ParsedConfig): void {
  if (layers.length !== diffIds.length)
    throw invalid(`invalid manifest, layers length mismatch: expected ${layers.length}, got ${diffIds.length}`);
  if (config.os !== "linux") throw invalid(`cannot load ${config.os} image on linux`);
}

type LayerToLoad = {
  readonly index: number;
  readonly diffId: DiffId;
  readonly parent: ChainId | undefined;
  readonly name: string;
};

/** A layer that is here already is not read at all. */
async function loadLayer(load: Load, { index, diffId, parent, name }: LayerToLoad): Promise<PendingLayer> {
  const { layers, members, progress, signal } = load;
  const known = layers.find(chainIdOf(parent, diffId)) !== undefined || layers.hasDiff(diffId);
  const bytes = countedBytes(decompress(members.open(name)), diffId, progress);
  const layer = await layers.register(parent, bytes, {
    ...(known ? { expected: diffId } : {}),
    ...(signal === undefined ? {} : { signal }),
  });
  if (layer.diffId === diffId) return layer;
  await layers.abandon([layer]);
  throw wrongDiff(index, diffId, layer.diffId);
}

/** Docker says which image loses its name. */
function renamedTags({ images }: Load, tags: readonly string[], id: ImageId): readonly object[] {
  return tags.flatMap((tag) => {
    const old = images.find(tag);
    if (old === undefined || old.id === id) return [];
    const stream = `The image ${familiarName(tag)} already exists, renaming the old one with ID ${old.id} to empty string\n`;
    return [{ stream }];
  });
}

function announce({ progress }: Load, tags: readonly string[], id: ImageId): readonly LoadedImage[] {
  if (tags.length === 0) {
    progress({ stream: `Loaded image ID: ${id}\n` });
    return [{ id }];
  }
  return tags.map((tag) => {
    progress({ stream: `Loaded image: ${familiarName(tag)}\n` });
    return { reference: tag };
  });
}

const invalid = (message: string): EngineError => new EngineError("invalid_argument", message);
