/**
 * The folders that every directory driver keeps below its home, and the moves between them:
 *
 *   <home>/<kept>/<id>     layers and writables ("kept" may be the home itself)
 *   <home>/staging/<id>    layers that are being filled, writables that are being made
 *   <home>/trash/<random>  what was removed and waits for `sweep`
 *
 * Each move is one rename, so an id is never half in sight. All folders are 0710, root's: no user of the host walks in.
 */
import { randomBytes } from "node:crypto";
import { chmod, mkdir, readdir, rename } from "node:fs/promises";
import { join } from "node:path";
import { EngineError, systemCode } from "../base/errors.ts";

const idPattern = /^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$/;
const folderMode = 0o710;

export class Folders {
  readonly home: string;
  readonly #kept: string;
  readonly #reserved: ReadonlySet<string>;

  /** `kept`: the folder of finished ids, "" for the home itself; `extra`: names in it that are no ids. */
  constructor(home: string, kept: string, extra: readonly string[] = []) {
    this.home = home;
    this.#kept = join(home, kept);
    this.#reserved = new Set(["staging", "trash", ...extra]);
  }

  get trash(): string {
    return join(this.home, "trash");
  }

  /** Makes the folders; those that exist keep what they hold. */
  async create(): Promise<void> {
    for (const folder of [this.home, this.#kept, join(this.home, "staging"), this.trash]) {
      await mkdir(folder, { recursive: true });
      await chmod(folder, folderMode);
    }
    // What a trial left that was killed.
    for (const name of await readdir(this.home))
      if (name.startsWith(".trial-")) await this.#trash(join(this.home, name));
  }

  /** Where a finished id stands. Throws invalid_argument for what is no id. */
  kept(id: string): string {
    this.#check(id);
    return join(this.#kept, id);
  }

  staged(id: string): string {
    this.#check(id);
    return join(this.home, "staging", id);
  }

  /** staging -> kept. */
  async commit(id: string): Promise<void> {
    await rename(this.staged(id), this.kept(id));
  }

  /** kept or staging -> trash; an id that is nowhere: nothing. */
  async discard(id: string): Promise<void> {
    await Promise.all([this.#trash(this.kept(id)), this.#trash(this.staged(id))]);
  }

  async #trash(path: string): Promise<void> {
    try {
      await rename(path, join(this.trash, randomBytes(12).toString("hex")));
    } catch (error) {
      if (systemCode(error) !== "ENOENT") throw error;
    }
  }

  /** Every id in sight. */
  async list(): Promise<string[]> {
    const kept = await readdir(this.#kept);
    const staged = await readdir(join(this.home, "staging"));
    const names = new Set([...kept, ...staged]);
    return [...names].filter((name) => idPattern.test(name) && !this.#reserved.has(name));
  }

  #check(id: string): void {
    if (!idPattern.test(id) || this.#reserved.has(id))
      throw new EngineError("invalid_argument", `invalid layer id for a storage driver: ${JSON.stringify(id)}`);
  }
}
