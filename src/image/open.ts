/**
 * The image store over the metadata database. Reads are synchronous; every change is one transaction. Configs are
 * verified against their id when they are first read, and the decoded ones of the latest images stay in memory.
 */
import type { ChainId, DiffId, ImageId } from "../base/digest.ts";
import { EngineError, errorMessage } from "../base/errors.ts";
import type { ImageConfig } from "../base/oci.ts";
import { canonicalName, familiarName, parseReference, withDefaultTag } from "../base/reference.ts";
import type { Row, Statement } from "../metadata/database.ts";
import { imageIdOf, parseImageConfig } from "./config.ts";
import { emitImageEvent } from "./event.ts";
import { parseTarget } from "./name.ts";
import { type ImageStoreParts, ownerOf } from "./parts.ts";
import { removeImage } from "./remove.ts";
import type { DamagedImage, Image, ImageStore, NewImage, RemovedImage, RemoveImageOptions } from "./store.ts";

type Decoded = {
  readonly config: ImageConfig;
  readonly diffIds: readonly DiffId[];
  readonly top: ChainId | undefined;
  readonly size: number;
};

/** Decoded configs kept in memory: a few kilobytes each. */
const kept = 256;

export function openImageStore(parts: ImageStoreParts): ImageStore {
  return new StoredImages(parts);
}

class StoredImages implements ImageStore {
  readonly #parts: ImageStoreParts;
  readonly #decoded = new Map<string, Decoded>();
  #removals: Promise<unknown> = Promise.resolve();

  constructor(parts: ImageStoreParts) {
    this.#parts = parts;
  }

  putStatements({ id, bytes, parent, local }: NewImage): readonly Statement[] {
    if (imageIdOf(bytes) !== id) throw new EngineError("data_loss", `the config of image ${id} has another digest`);
    const top = parseImageConfig(bytes).chain.at(-1);
    return [
      {
        // A parent that is gone by now is no reason to fail; made here once stays made here.
        sql: `INSERT INTO image (id, bytes, parent, local) VALUES (?1, ?2, (SELECT id FROM image WHERE id = ?3 AND id <> ?1), ?4)
              ON CONFLICT (id) DO UPDATE SET bytes = excluded.bytes, local = max(local, excluded.local), parent = coalesce(excluded.parent, parent)`,
        parameters: [id, bytes, parent ?? null, local ? 1 : 0],
      },
      ...(top === undefined ? [] : this.#parts.layers.holdStatements(ownerOf(id), top)),
    ];
  }

  tagStatements(reference: string, id: ImageId, at = new Date().toISOString()): readonly Statement[] {
    return [
      {
        sql: "INSERT INTO image_reference (name, image) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET image = excluded.image",
        parameters: [canonicalName(withDefaultTag(parseReference(reference))), id],
      },
      { sql: "UPDATE image SET last_tagged = ? WHERE id = ?", parameters: [at, id], changes: 1 },
    ];
  }

  get(nameOrId: string): Image {
    const target = parseTarget(nameOrId);
    const id = this.#lookup(nameOrId);
    if (id === undefined) throw missing(target.shown);
    return this.getById(id);
  }

  find(nameOrId: string): Image | undefined {
    const id = this.#lookup(nameOrId);
    return id === undefined ? undefined : this.getById(id);
  }

  getById(id: ImageId): Image {
    const row = this.#parts.database.get("SELECT * FROM image WHERE id = ?", id);
    if (row === undefined) throw missing(id);
    return this.#imageOf(row);
  }

  list(): readonly Image[] {
    return this.#imagesOf(this.#parts.database.all("SELECT * FROM image"));
  }

  damaged(): readonly DamagedImage[] {
    const found: DamagedImage[] = [];
    for (const row of this.#parts.database.all("SELECT * FROM image")) {
      try {
        decode(row);
      } catch (error) {
        found.push({ id: String(row.id), problem: errorMessage(error) });
      }
    }
    return found;
  }

  children(id: ImageId): readonly Image[] {
    return this.#imagesOf(this.#parts.database.all("SELECT * FROM image WHERE parent = ?", id));
  }

  async tag(nameOrId: string, reference: string): Promise<void> {
    const image = this.get(nameOrId);
    const parsed = parseReference(reference);
    if (parsed.digest !== undefined)
      throw new EngineError("invalid_argument", "refusing to create a tag with a digest reference");
    if (familiarName({ ...parsed, tag: undefined }) === "sha256")
      throw new EngineError("invalid_argument", "refusing to create an ambiguous tag using digest algorithm as name");
    const tagged = withDefaultTag(parsed);
    await this.#parts.database.transact(this.tagStatements(canonicalName(tagged), image.id));
    emitImageEvent(this.#parts.events, "tag", { id: image.id, config: image.config, name: familiarName(tagged) });
  }

  /** One removal at a time: each decides by what the one before left. */
  async remove(nameOrId: string, options: RemoveImageOptions): Promise<readonly RemovedImage[]> {
    const removal = this.#removals.then(() => removeImage(this, this.#parts, { typed: nameOrId, options }));
    this.#removals = removal.catch(() => undefined);
    return removal;
  }

  #lookup(nameOrId: string): ImageId | undefined {
    const { database } = this.#parts;
    const { id, reference, prefix } = parseTarget(nameOrId);
    if (id !== undefined) return database.get("SELECT id FROM image WHERE id = ?", id)?.id as ImageId | undefined;
    if (reference !== undefined) {
      const row = database.get("SELECT image FROM image_reference WHERE name = ?", reference);
      if (row !== undefined) return row.image as ImageId;
    }
    if (prefix === undefined) return undefined;
    const rows = database.all("SELECT id FROM image WHERE id >= ?1 AND id < ?1 || 'g' LIMIT 2", prefix);
    return rows.length === 1 ? (rows[0]?.id as ImageId | undefined) : undefined;
  }

  #imagesOf(rows: readonly Row[]): Image[] {
    const images: Image[] = [];
    for (const row of rows) {
      try {
        images.push(this.#imageOf(row));
      } catch {
        // One damaged record must not hide all others; damaged() names it.
      }
    }
    return images;
  }

  #imageOf(row: Row): Image {
    const id = row.id as ImageId;
    const references = this.#parts.database.all("SELECT name FROM image_reference WHERE image = ? ORDER BY name", id);
    return {
      id,
      bytes: String(row.bytes),
      ...this.#decode(id, row),
      parent: row.parent === null ? undefined : (row.parent as ImageId),
      local: row.local === 1,
      references: references.map(({ name }) => String(name)),
      lastTagged: row.last_tagged === null ? undefined : String(row.last_tagged),
    };
  }

  #decode(id: ImageId, row: Row): Decoded {
    const known = this.#decoded.get(id);
    if (known !== undefined) return known;
    const { config, diffIds, chain } = decode(row);
    const size = this.#sizeOf(id, chain);
    const decoded: Decoded = { config, diffIds, top: chain.at(-1), size };
    this.#decoded.set(id, decoded);
    for (const oldest of this.#decoded.keys()) {
      if (this.#decoded.size <= kept) break;
      this.#decoded.delete(oldest);
    }
    return decoded;
  }

  /** Another storage driver's images have no layers here: they are not shown, as with dockerd. */
  #sizeOf(id: ImageId, chain: readonly ChainId[]): number {
    const { layers } = this.#parts;
    let size = 0;
    for (const chainId of chain) {
      const layer = layers.find(chainId);
      if (layer === undefined)
        throw new EngineError(
          "not_found",
          `No such image: ${id} (its layers are not in storage driver "${layers.driverName}": load it again, or start with the driver it was made with)`,
        );
      size += layer.size;
    }
    return size;
  }
}

function decode({ id, bytes }: Row): ReturnType<typeof parseImageConfig> {
  const text = String(bytes);
  if (imageIdOf(text) !== id)
    throw new EngineError("data_loss", `image ${id} is damaged: its config has another digest; load or pull it again`);
  return parseImageConfig(text);
}

const missing = (shown: string): EngineError => new EngineError("not_found", `No such image: ${shown}`);
