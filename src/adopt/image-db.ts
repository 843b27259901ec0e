/**
 * dockerd's records of images (moby image/fs.go, reference/store.go):
 *
 *   <image root>/imagedb/content/sha256/<id>                                the config, whose digest is the id
 *   <image root>/imagedb/metadata/sha256/<id>/{parent, lastUpdated, builtLocally}
 *   <image root>/repositories.json    {"Repositories": {"app": {"app:1": "sha256:<id>", "app@sha256:<digest>": ...}}}
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import * as v from "valibot";
import { hexOf, type ImageId, parseImageId } from "../base/digest.ts";
import { EngineError, errorMessage } from "../base/errors.ts";
import { canonicalName, parseReference, withDefaultTag } from "../base/reference.ts";
import { decodeShape, looseObject, textMap } from "../base/shape.ts";
import { imageIdOf } from "../image/config.ts";
import { namesIn, readIfThere } from "./read-files.ts";

export type SourceImage = {
  readonly id: ImageId;
  /** The image that it was built from. */
  readonly parent: ImageId | undefined;
  /** RFC 3339, when it was last tagged. */
  readonly lastTagged: string | undefined;
  /** Made by a build or a commit there; dockerd notes it since 24.0. */
  readonly local: boolean;
  /** Canonical references. */
  readonly references: readonly string[];
};

const mapOfMaps = v.custom<Record<string, Record<string, string>>>(
  (value) => typeof value === "object" && value !== null && Object.values(value).every((one) => v.is(textMap, one)),
  "object of objects of strings",
);
const repositoriesShape = looseObject({ Repositories: v.optional(mapOfMaps, {}) });

export class ImageDb {
  readonly #root: string;

  /** `imageRoot`: `<data root>/image/<driver>`. */
  constructor(imageRoot: string) {
    this.#root = imageRoot;
  }

  /** Every image with its names, parents before children. `report` is told of references that cannot be read. */
  async list(report: (problem: string) => void): Promise<readonly SourceImage[]> {
    const names = await namesIn(join(this.#root, "imagedb/content/sha256"));
    const ids = names.filter((name) => /^[0-9a-f]{64}$/.test(name)).sort();
    const references = await this.#references(report);
    const images = new Map<ImageId, SourceImage>();
    for (const hex of ids) {
      const id = parseImageId(`sha256:${hex}`);
      images.set(id, await this.#image(id, references.get(id) ?? []));
    }
    return parentsFirst(images);
  }

  /** The config's text. Throws data_loss when it is not what the id says. */
  async config(id: ImageId): Promise<string> {
    const bytes = await readFile(join(this.#root, "imagedb/content/sha256", hexOf(id)), "utf8");
    if (imageIdOf(bytes) !== id) throw new EngineError("data_loss", "its config has another digest");
    return bytes;
  }

  async #image(id: ImageId, references: readonly string[]): Promise<SourceImage> {
    const parent = await this.#metadata(id, "parent");
    const lastUpdated = await this.#metadata(id, "lastUpdated");
    return {
      id,
      parent: parent === undefined || !/^sha256:[0-9a-f]{64}$/.test(parent) ? undefined : parseImageId(parent),
      lastTagged: lastUpdated === undefined || Number.isNaN(Date.parse(lastUpdated)) ? undefined : lastUpdated,
      local: (await this.#metadata(id, "builtLocally")) !== undefined,
      references: [...references].sort(),
    };
  }

  async #metadata(id: ImageId, name: string): Promise<string | undefined> {
    return (await readIfThere(join(this.#root, "imagedb/metadata/sha256", hexOf(id), name)))?.trim();
  }

  async #references(report: (problem: string) => void): Promise<ReadonlyMap<string, readonly string[]>> {
    const found = new Map<string, string[]>();
    for (const [reference, id] of await this.#repositories(report)) {
      try {
        const canonical = canonicalName(withDefaultTag(parseReference(reference)));
        found.set(id, [...(found.get(id) ?? []), canonical]);
      } catch (error) {
        report(`the reference ${JSON.stringify(reference)} cannot be kept: ${errorMessage(error)}`);
      }
    }
    return found;
  }

  async #repositories(report: (problem: string) => void): Promise<readonly (readonly [string, string])[]> {
    const text = await readIfThere(join(this.#root, "repositories.json"));
    if (text === undefined) return [];
    try {
      const parsed = decodeShape(repositoriesShape, JSON.parse(text));
      if (parsed.ok) return Object.values(parsed.value.Repositories).flatMap((one) => Object.entries(one));
      report(`repositories.json is damaged, so that no image has a name: ${parsed.path}: ${parsed.problem}`);
    } catch (error) {
      report(`repositories.json is damaged, so that no image has a name: ${errorMessage(error)}`);
    }
    return [];
  }
}

/** A parent that is not there is none; where parents go round in a circle, one of them comes too early. */
function parentsFirst(images: ReadonlyMap<ImageId, SourceImage>): readonly SourceImage[] {
  const ordered = new Set<SourceImage>();
  for (const image of images.values()) {
    const line: SourceImage[] = [];
    for (let next: SourceImage | undefined = image; next !== undefined && !ordered.has(next); ) {
      if (line.includes(next)) break;
      line.unshift(next);
      next = next.parent === undefined ? undefined : images.get(next.parent);
    }
    for (const one of line) ordered.add(one);
  }
  return [...ordered];
}
