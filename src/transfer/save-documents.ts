/**
 * The small members of a `docker save` archive: OCI layout (image-spec image-layout.md) and, over the same blobs, what
 * older engines read (`manifest.json`, `repositories`). All is known before the first byte leaves.
 */
import { chainIdsOf, type DiffId, type Digest, digestOf, hexOf } from "../base/digest.ts";
import { EngineError } from "../base/errors.ts";
import { familiarName, familiarRepository, parseReference } from "../base/reference.ts";
import type { LayerInfo, LayerStore } from "../layer/store.ts";
import type { ImageToSave } from "./save-names.ts";

export type SavedDocuments = {
  /** Name in the archive -> content. */
  readonly members: ReadonlyMap<string, string>;
  /** Every layer once. */
  readonly layers: ReadonlyMap<DiffId, LayerInfo>;
};

const layerType = "application/vnd.oci.image.layer.v1.tar";
const manifestType = "application/vnd.oci.image.manifest.v1+json";
const indexType = "application/vnd.oci.image.index.v1+json";
const configType = "application/vnd.oci.image.config.v1+json";

export const blobName = (digest: Digest): string => `blobs/sha256/${hexOf(digest)}`;

export function savedDocuments(images: readonly ImageToSave[], store: LayerStore): SavedDocuments {
  const blobs = new Map<string, string>();
  const layers = new Map<DiffId, LayerInfo>();
  const descriptors: object[] = [];
  for (const { image, tags } of images) {
    for (const layer of layersOf(image.diffIds, store)) if (!layers.has(layer.diffId)) layers.set(layer.diffId, layer);
    const manifest = manifestOf(image, layers);
    const digest = digestOf(manifest);
    blobs.set(blobName(image.id), image.bytes);
    blobs.set(blobName(digest), manifest);
    const descriptor = { mediaType: manifestType, digest, size: Buffer.byteLength(manifest) };
    descriptors.push(
      ...(tags.length === 0 ? [descriptor] : tags.map((tag) => ({ ...descriptor, annotations: named(tag) }))),
    );
  }
  const index = { schemaVersion: 2, mediaType: indexType, manifests: descriptors };
  const legacy = images.map((entry) => legacyEntry(entry, layers));
  const repositories = repositoriesOf(images);
  return {
    layers,
    members: new Map([
      ["oci-layout", JSON.stringify({ imageLayoutVersion: "1.0.0" })],
      // First what the archive holds: a reader can then take the rest as it comes.
      ["manifest.json", `${JSON.stringify(legacy)}\n`],
      ["index.json", JSON.stringify(index)],
      ...(repositories === undefined ? [] : [["repositories", `${JSON.stringify(repositories)}\n`] as const]),
      ...blobs,
    ]),
  };
}

function layersOf(diffIds: readonly DiffId[], store: LayerStore): readonly LayerInfo[] {
  return chainIdsOf(diffIds).map((chainId) => {
    const layer = store.find(chainId);
    if (layer === undefined) throw new EngineError("not_found", `No such layer: ${chainId}`);
    return layer;
  });
}

function manifestOf(image: ImageToSave["image"], layers: ReadonlyMap<DiffId, LayerInfo>): string {
  return JSON.stringify({
    schemaVersion: 2,
    mediaType: manifestType,
    config: { mediaType: configType, digest: image.id, size: Buffer.byteLength(image.bytes) },
    layers: image.diffIds.map((diffId) => layerDescriptor(diffId, layers)),
  });
}

const layerDescriptor = (diffId: DiffId, layers: ReadonlyMap<DiffId, LayerInfo>): object => ({
  mediaType: layerType,
  digest: diffId,
  size: layers.get(diffId)?.tarSize,
});

function legacyEntry({ image, tags }: ImageToSave, layers: ReadonlyMap<DiffId, LayerInfo>): object {
  return {
    Config: blobName(image.id),
    RepoTags: tags.length === 0 ? null : tags.map((tag) => familiarName(tag)),
    Layers: image.diffIds.map(blobName),
    LayerSources: Object.fromEntries(image.diffIds.map((diffId) => [diffId, layerDescriptor(diffId, layers)])),
  };
}

const named = (tag: string): object => ({
  "io.containerd.image.name": tag,
  "org.opencontainers.image.ref.name": parseReference(tag).tag,
});

function repositoriesOf(images: readonly ImageToSave[]): object | undefined {
  const repositories = new Map<string, Record<string, string>>();
  for (const { image, tags } of images) {
    const top = image.diffIds.at(-1);
    for (const tag of top === undefined ? [] : tags) {
      const reference = parseReference(tag);
      const name = familiarRepository(reference);
      const known = repositories.get(name) ?? {};
      repositories.set(name, { ...known, [reference.tag ?? ""]: top === undefined ? "" : hexOf(top) });
    }
  }
  return repositories.size === 0 ? undefined : Object.fromEntries(repositories);
}
