/**
 * What an archive says it holds: `manifest.json` of `docker save` (any age since 1.10), or without it the `index.json`
 * of an OCI layout. Both become the same list; digests named by an OCI index are verified here.
 */
import * as v from "valibot";
import { type Digest, digestOf, hexOf, parseDigest } from "../base/digest.ts";
import { EngineError } from "../base/errors.ts";
import { canonicalName, parseReference } from "../base/reference.ts";
import { decodeShape, looseObject, type Shape, textList, textMap } from "../base/shape.ts";
import type { ArchiveMembers } from "./archive-members.ts";
import { hostArchitecture } from "./platform.ts";

/** One image of an archive. `config` and `layers` are names of members. */
export type ArchivedImage = {
  readonly config: string;
  readonly layers: readonly string[];
  /** Canonical, each with a tag. */
  readonly tags: readonly string[];
  /** What the archive's own index says the config's digest is. */
  readonly configDigest?: Digest;
};

/** No honest JSON document of an archive is longer. */
export const jsonLimit = 8 * 1024 * 1024;
const maxNesting = 4;
const maxManifests = 1000;

const dockerManifest = v.array(
  looseObject({
    Config: v.string(),
    RepoTags: v.nullish(textList),
    Layers: v.nullish(textList),
  }),
);

const descriptor = looseObject({
  mediaType: v.optional(v.string(), ""),
  digest: v.string(),
  platform: v.optional(looseObject({ os: v.optional(v.string(), ""), architecture: v.optional(v.string(), "") })),
  annotations: v.nullish(textMap),
});
const ociIndex = looseObject({ manifests: v.array(descriptor) });
const ociManifest = looseObject({ config: descriptor, layers: v.array(descriptor) });

type Descriptor = v.InferOutput<typeof descriptor>;

/** Throws invalid_argument in Docker's words. */
export async function readManifest(members: ArchiveMembers): Promise<readonly ArchivedImage[]> {
  if (await members.has("manifest.json")) return dockerImages(await members.text("manifest.json", jsonLimit));
  if (await members.has("index.json")) return ociImages(members);
  throw invalid("invalid archive: does not contain a manifest.json");
}

function dockerImages(text: string): readonly ArchivedImage[] {
  const document = parseJson(text, "manifest");
  if (document === null) throw invalid("invalid manifest, manifest cannot be null (but can be [])");
  return checked(dockerManifest, document, "manifest").map(({ Config, RepoTags, Layers }) => ({
    config: Config,
    layers: Layers ?? [],
    tags: (RepoTags ?? []).map(parseTag),
  }));
}

function parseTag(text: string): string {
  const reference = parseReference(text);
  if (reference.tag === undefined || reference.digest !== undefined)
    throw invalid(`invalid tag ${JSON.stringify(text)}`);
  return canonicalName(reference);
}

async function ociImages(members: ArchiveMembers): Promise<readonly ArchivedImage[]> {
  const { manifests } = checked(ociIndex, parseJson(await members.text("index.json", jsonLimit), "index"), "index");
  if (manifests.length > maxManifests) throw invalid(`invalid index: more than ${maxManifests} manifests`);
  const images: ArchivedImage[] = [];
  for (const entry of manifests) images.push(await ociImage(members, entry, 0));
  return images;
}

async function ociImage(members: ArchiveMembers, entry: Descriptor, nesting: number): Promise<ArchivedImage> {
  if (nesting > maxNesting) throw invalid("invalid index: indexes nested too deep");
  const digest = parseDigest(entry.digest);
  const text = await members.text(blobName(digest), jsonLimit);
  if (digestOf(text) !== digest) throw new EngineError("data_loss", `blob ${digest} of the archive has another digest`);
  const document = parseJson(text, "manifest");
  if (isAmbiguous(document)) throw invalid(`invalid manifest ${digest}: both a manifest and an index (CVE-2021-41190)`);
  const index = decodeShape(ociIndex, document);
  if (index.ok)
    return { ...(await ociImage(members, ownPlatform(index.value.manifests), nesting + 1)), tags: tagsOf(entry) };
  const { config, layers } = checked(ociManifest, document, "manifest");
  const configDigest = parseDigest(config.digest);
  return {
    config: blobName(configDigest),
    layers: layers.map((layer) => blobName(parseDigest(layer.digest))),
    tags: tagsOf(entry),
    configDigest,
  };
}

function ownPlatform(manifests: readonly Descriptor[]): Descriptor {
  const own = manifests.find(({ platform }) => platform?.os === "linux" && platform.architecture === hostArchitecture);
  const found = own ?? (manifests.length === 1 ? manifests[0] : undefined);
  if (found === undefined) throw new EngineError("not_found", `the archive has no image for linux/${hostArchitecture}`);
  return found;
}

/** containerd writes the whole name; the OCI annotation may be a whole name too, or only a tag, which names nothing. */
function tagsOf({ annotations }: Descriptor): string[] {
  const whole = annotations?.["io.containerd.image.name"];
  if (whole !== undefined) return [parseTag(whole)];
  const name = annotations?.["org.opencontainers.image.ref.name"] ?? "";
  return /[:/].*:/.test(name) || /^[^:/]+(?:\/[^:]+)*:[^/]+$/.test(name) ? [parseTag(name)] : [];
}

const isAmbiguous = (document: unknown): boolean =>
  typeof document === "object" &&
  document !== null &&
  "manifests" in document &&
  ("layers" in document || "config" in document);

const blobName = (digest: Digest): string => `blobs/sha256/${hexOf(digest)}`;

function parseJson(text: string, what: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new EngineError("invalid_argument", `invalid ${what}: not JSON`, { cause });
  }
}

function checked<T>(shape: Shape<T>, document: unknown, what: string): T {
  const parsed = decodeShape(shape, document);
  if (parsed.ok) return parsed.value;
  throw invalid(`invalid ${what}: ${parsed.path}: ${parsed.problem}`);
}

const invalid = (message: string): EngineError => new EngineError("invalid_argument", message);
