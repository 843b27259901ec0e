/**
 * What is true of a running container only until the next boot: `<exec-root>/volatile/<id>.json`, written without fsync.
 * A file of another boot is as good as none. The kernel, asked through the runtime, decides what runs; this only adds
 * what the kernel does not tell.
 */
import { mkdir, readdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import * as v from "valibot";
import { systemCode } from "../base/errors.ts";
import { removeFile } from "../host/remove-file.ts";
import { Mutex } from "./mutex.ts";

const shape = v.object({
  bootId: v.string(),
  startedAt: v.string(),
  paused: v.boolean(),
  restartCount: v.number(),
  stoppedByUser: v.boolean(),
});

export type VolatileState = Omit<v.InferOutput<typeof shape>, "bootId">;

export class VolatileStates {
  readonly #directory: string;
  readonly #bootId: string;
  /** What is done to one file is done in order. */
  readonly #locks = new Map<string, Mutex>();

  constructor(execRoot: string, bootId: string) {
    this.#directory = join(execRoot, "volatile");
    this.#bootId = bootId;
  }

  async open(): Promise<void> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
  }

  async write(id: string, state: VolatileState): Promise<void> {
    const path = this.#path(id);
    await this.#lock(id).run(async () => {
      await writeFile(`${path}.new`, JSON.stringify({ bootId: this.#bootId, ...state }), { mode: 0o600 });
      await rename(`${path}.new`, path);
    });
  }

  /** Undefined when there is none of this boot. */
  async read(id: string): Promise<VolatileState | undefined> {
    try {
      const state = v.safeParse(shape, JSON.parse(await readFile(this.#path(id), "utf8")));
      return state.success && state.output.bootId === this.#bootId ? state.output : undefined;
    } catch (error) {
      if (error instanceof SyntaxError || systemCode(error) === "ENOENT") return undefined;
      throw error;
    }
  }

  async remove(id: string): Promise<void> {
    await this.#lock(id).run(() => removeFile(this.#path(id)));
    this.#locks.delete(id);
  }

  /** Removes what belongs to no known container. */
  async sweep(known: ReadonlySet<string>): Promise<void> {
    for (const name of await readdir(this.#directory))
      if (!known.has(name.split(".")[0] ?? "")) await removeFile(join(this.#directory, name));
  }

  #lock(id: string): Mutex {
    const lock = this.#locks.get(id) ?? new Mutex();
    this.#locks.set(id, lock);
    return lock;
  }

  #path(id: string): string {
    return join(this.#directory, `${id}.json`);
  }
}
