/**
 * What the target has already. Read from the tables themselves, so that a dry run, which opens no store and may find no
 * database at all, gets the same answers.
 */
import type { ChainId, ImageId } from "../base/digest.ts";
import type { Database, SqlValue } from "../metadata/database.ts";

export class Known {
  readonly #database: Database | undefined;
  readonly #driver: string;

  /** `driver`: the target's storage driver. Without a database nothing is known. */
  constructor(database: Database | undefined, driver: string) {
    this.#database = database;
    this.#driver = driver;
  }

  layer(chainId: ChainId): boolean {
    const ready = "driver = ? AND kind = 'image' AND state = 'ready' AND chain_id = ?";
    return this.#has(`SELECT 1 FROM layer_layers WHERE ${ready}`, this.#driver, chainId);
  }

  /** Its record and its layers: an image of another storage driver's is not here. */
  image(id: ImageId, top: ChainId | undefined): boolean {
    return this.#has("SELECT 1 FROM image WHERE id = ?", id) && (top === undefined || this.layer(top));
  }

  /** The image that a canonical reference names. */
  reference(name: string): string | undefined {
    const row = this.#database?.get("SELECT image FROM image_reference WHERE name = ?", name);
    return row === undefined ? undefined : String(row.image);
  }

  container(id: string): boolean {
    return this.#has("SELECT 1 FROM container WHERE id = ?", id);
  }

  /** The id of the container with this name. */
  containerNamed(name: string): string | undefined {
    const row = this.#database?.get("SELECT id FROM container WHERE name = ?", name);
    return row === undefined ? undefined : String(row.id);
  }

  volume(name: string): boolean {
    return this.#has("SELECT 1 FROM volume WHERE name = ? AND state = 'ready'", name);
  }

  #has(sql: string, ...parameters: readonly SqlValue[]): boolean {
    return this.#database?.get(sql, ...parameters) !== undefined;
  }
}
