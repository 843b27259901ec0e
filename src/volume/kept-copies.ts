/**
 * Full copies of volumes whose driver has no snapshots, below the data root:
 *
 *     <root>/volume-snapshots/<id>/data/     one copy; its row is `ready` once it is whole and on the disk
 *
 * A copy without a row, or with another one, is worth nothing: it goes when the store opens.
 */
import { randomBytes } from "node:crypto";
import { mkdir, rename } from "node:fs/promises";
import { join } from "node:path";
import { systemCode } from "../base/errors.ts";
import { syncDirectory } from "../host/durable.ts";
import { namesIn } from "../host/names-in.ts";
import type { Pool } from "../host/pool.ts";
import type { Database } from "../metadata/database.ts";
import { deleteCopy, listCopies } from "./verb-records.ts";

const discardTasks = new URL("../volume-driver/discard-task.ts", import.meta.url);

export class KeptCopies {
  readonly #directory: string;
  readonly #pool: Pool;

  constructor(root: string, pool: Pool) {
    this.#directory = join(root, "volume-snapshots");
    this.#pool = pool;
  }

  /** Rows and folders agree when it resolves. */
  async open(database: Database): Promise<void> {
    const all = listCopies(database);
    const half = all.filter(({ state }) => state !== "ready");
    const whole = new Set(all.filter(({ state }) => state === "ready").map(({ id }) => id));
    for (const name of await namesIn(this.#directory)) if (!whole.has(name)) await this.#discard(name);
    if (half.length > 0) await database.transact(half.map(({ id }) => deleteCopy(id)));
  }

  /** An empty folder for a new copy. */
  async make(): Promise<{ readonly id: string; readonly path: string }> {
    const id = randomBytes(16).toString("hex");
    await mkdir(join(this.#directory, id), { recursive: true, mode: 0o700 });
    await mkdir(this.pathOf(id), { mode: 0o700 });
    await syncDirectory(this.#directory);
    return { id, path: this.pathOf(id) };
  }

  pathOf(id: string): string {
    return join(this.#directory, id, "data");
  }

  /** Gone from its place when it resolves; not there: nothing. */
  async remove(id: string): Promise<void> {
    const gone = `.gone-${id}`;
    try {
      await rename(join(this.#directory, id), join(this.#directory, gone));
    } catch (error) {
      if (systemCode(error) === "ENOENT") return;
      throw error;
    }
    await syncDirectory(this.#directory);
    await this.#discard(gone);
  }

  #discard = (name: string): Promise<void> => this.#pool.run(discardTasks, "discardTask", join(this.#directory, name));
}
