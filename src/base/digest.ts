/**
 * Digests and what is named by them (OCI image-spec, descriptor.md and config.md):
 * - diff ID: sha256 of a layer's uncompressed tar;
 * - chain ID: sha256 over the diff IDs of a layer and all below it;
 * - image ID: sha256 of the image's config JSON, byte for byte.
 */
import { createHash } from "node:crypto";
import type { Brand } from "./brand.ts";
import { EngineError } from "./errors.ts";

export type Digest = Brand<string, "Digest">;
export type DiffId = Brand<Digest, "DiffId">;
export type ChainId = Brand<Digest, "ChainId">;
export type ImageId = Brand<Digest, "ImageId">;

const pattern = /^sha256:[a-f0-9]{64}$/;

/** Throws invalid_argument unless `text` is `sha256:` and 64 lower-case hex digits. */
export function parseDigest(text: string): Digest {
  if (!pattern.test(text))
    throw new EngineError("invalid_argument", `invalid digest: ${JSON.stringify(text.slice(0, 100))}`);
  return text as Digest;
}

export const parseDiffId = (text: string): DiffId => parseDigest(text) as DiffId;
export const parseChainId = (text: string): ChainId => parseDigest(text) as ChainId;
export const parseImageId = (text: string): ImageId => parseDigest(text) as ImageId;

export function digestOf(data: Uint8Array | string): Digest {
  return `sha256:${createHash("sha256").update(data).digest("hex")}` as Digest;
}

/** The chain ID of a layer with `diffId` over `parent` (undefined: the lowest layer). */
export function chainIdOf(parent: ChainId | undefined, diffId: DiffId): ChainId {
  return parent === undefined ? (diffId as Digest as ChainId) : (digestOf(`${parent} ${diffId}`) as ChainId);
}

/** Chain IDs of every layer of an image, lowest first. */
export function chainIdsOf(diffIds: readonly DiffId[]): ChainId[] {
  const chain: ChainId[] = [];
  for (const diffId of diffIds) chain.push(chainIdOf(chain.at(-1), diffId));
  return chain;
}

/** The 64 hex digits of a digest. */
export const hexOf = (digest: Digest): string => digest.slice("sha256:".length);
