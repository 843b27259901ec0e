/** Which images `docker save` means, and under which tags: names, ids, or a repository with all its tags. */
import type { ImageId } from "../base/digest.ts";
import { EngineError } from "../base/errors.ts";
import { canonicalName, canonicalRepository, familiarRepository, parseReference } from "../base/reference.ts";
import type { Image, ImageStore } from "../image/store.ts";

export type ImageToSave = {
  readonly image: Image;
  /** Canonical; none for an image that was named by its id. */
  readonly tags: readonly string[];
};

/** Each image once, with the tags of every name that led to it. Throws not_found, invalid_argument. */
export function imagesToSave(images: ImageStore, names: readonly string[]): readonly ImageToSave[] {
  if (names.length === 0) throw new EngineError("invalid_argument", "nothing to save: name an image");
  const found = new Map<ImageId, { readonly image: Image; readonly tags: Set<string> }>();
  for (const name of names)
    for (const { image, tags } of meant(images, name)) {
      const entry = found.get(image.id) ?? { image, tags: new Set<string>() };
      for (const tag of tags) entry.tags.add(tag);
      found.set(image.id, entry);
    }
  return found
    .values()
    .map(({ image, tags }) => ({ image, tags: [...tags] }))
    .toArray();
}

function meant(images: ImageStore, name: string): readonly ImageToSave[] {
  if (/^(?:sha256:)?[a-f0-9]{64}$/.test(name)) return [{ image: images.get(name), tags: [] }];
  const reference = parseReference(name);
  if (familiarRepository(reference) === "sha256" || reference.digest !== undefined)
    return [{ image: images.get(name), tags: [] }];
  if (reference.tag !== undefined) return [{ image: images.get(name), tags: [canonicalName(reference)] }];
  const prefix = `${canonicalRepository(reference)}:`;
  const tagged = images.list().flatMap((image): ImageToSave[] => {
    const tags = image.references.filter((tag) => tag.startsWith(prefix) && !tag.includes("@"));
    return tags.length === 0 ? [] : [{ image, tags }];
  });
  return tagged.length > 0 ? tagged : [{ image: byId(images, name), tags: [] }];
}

function byId(images: ImageStore, name: string): Image {
  const image = images.find(name);
  if (image === undefined) throw new EngineError("not_found", `No such image: ${name}`);
  return image;
}
