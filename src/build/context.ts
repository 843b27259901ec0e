/**
 * The build context on disk while a build runs: `<staging root>/build-<pid>-<random>/`, unpacked by a worker, 0700, gone
 * when it is disposed. What a killed daemon left behind goes when the engine starts.
 */
import { randomBytes } from "node:crypto";
import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { archiveTasks } from "../archive/task-url.ts";
import type { Pool } from "../host/pool.ts";

const tasks = new URL("./context-task.ts", import.meta.url);
const prefix = "build-";

export class ContextRoot {
  readonly #path: string;
  readonly #pool: Pool;
  #swept: Promise<void> | undefined;

  constructor(path: string, pool: Pool) {
    this.#path = path;
    this.#pool = pool;
  }

  /** Unpacks `tar` (plain or compressed); everything in it becomes root's. */
  async open(tar: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<BuildContext> {
    this.#swept ??= this.#sweep();
    try {
      await this.#swept;
    } catch (error) {
      // A disk that was full is tried again.
      this.#swept = undefined;
      throw error;
    }
    const path = join(this.#path, `${prefix}${process.pid}-${randomBytes(8).toString("hex")}`);
    await mkdir(path, { mode: 0o700 });
    await using undo = new AsyncDisposableStack();
    const context = undo.use(new BuildContext(path, this.#pool));
    const argument = { root: path, dest: "/", copyOwner: false };
    await this.#pool.run(archiveTasks, "extractTreeTask", argument, { input: tar, signal });
    undo.move();
    return context;
  }

  async #sweep(): Promise<void> {
    await mkdir(this.#path, { recursive: true, mode: 0o700 });
    for (const name of await readdir(this.#path))
      if (name.startsWith(prefix)) await this.#pool.run(tasks, "discardContextTask", join(this.#path, name));
  }
}

export class BuildContext implements AsyncDisposable {
  readonly path: string;
  readonly #pool: Pool;

  constructor(path: string, pool: Pool) {
    this.path = path;
    this.#pool = pool;
  }

  /** Throws invalid_argument when there is none. */
  async readDockerfile(path: string): Promise<string> {
    return this.#pool.run(tasks, "readDockerfileTask", { root: this.path, path });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#pool.run(tasks, "discardContextTask", this.path);
  }
}
