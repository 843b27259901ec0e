/**
 * Exits of containers. conmon writes `exits/<id>` by rename; inotify tells at once. A conmon that was killed writes
 * nothing, so those that are waited for are also asked, every two seconds, whether their conmon lives; if not, `lost` ends
 * the container and writes the file in conmon's place.
 */
import { type FSWatcher, watch } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { EngineError, systemCode } from "../base/errors.ts";

export type ExitFile = { readonly code: number; readonly at: number };

type Waiter = {
  readonly promise: Promise<ExitFile>;
  readonly resolve: (exit: ExitFile) => void;
  readonly reject: (reason: Error) => void;
};

const patrolInterval = 2_000;

export class ExitWatch {
  readonly #directory: string;
  readonly #lost: (id: string) => Promise<void>;
  readonly #waiters = new Map<string, Waiter>();
  readonly #watcher: FSWatcher;
  #patrol: NodeJS.Timeout | undefined;
  #closed = false;

  /** `lost(id)` is called for a container whose exit nobody has told; it does nothing when its conmon lives. */
  constructor(directory: string, lost: (id: string) => Promise<void>) {
    this.#directory = directory;
    this.#lost = lost;
    this.#watcher = watch(directory, (_, name) => {
      if (name !== null && this.#waiters.has(name)) void this.#check(name);
    });
    // The directory went away below us: the patrol goes on.
    this.#watcher.on("error", () => {});
  }

  /** Resolves with the exit; rejects with not_found when the container is removed before. */
  wait(id: string): Promise<ExitFile> {
    if (this.#closed) return Promise.reject(closedError());
    const waiting = this.#waiters.get(id);
    if (waiting !== undefined) return waiting.promise;
    const { promise, resolve, reject } = Promise.withResolvers<ExitFile>();
    // Whoever waits sees the rejection; nobody has to.
    promise.catch(() => {});
    this.#waiters.set(id, { promise, resolve, reject });
    this.#patrol ??= setInterval(() => void this.#askAll(), patrolInterval);
    void this.#check(id);
    return promise;
  }

  /** The exit, when the file is there. */
  async find(id: string): Promise<ExitFile | undefined> {
    const path = join(this.#directory, id);
    try {
      const [text, { mtimeMs }] = await Promise.all([readFile(path, "utf8"), stat(path)]);
      // Not conmon's work, which is there whole or not at all.
      if (!/^-?\d+$/.test(text)) return undefined;
      return { code: Number(text), at: mtimeMs };
    } catch (error) {
      if (systemCode(error) === "ENOENT") return undefined;
      throw error;
    }
  }

  /** To be called before the exit file is removed: tells those who wait. */
  async forget(id: string): Promise<void> {
    await this.#check(id);
    this.#settle(id)?.reject(new EngineError("not_found", `container ${id} was removed before it ended`));
  }

  close(): void {
    this.#closed = true;
    this.#watcher.close();
    for (const id of [...this.#waiters.keys()]) this.#settle(id)?.reject(closedError());
  }

  async #check(id: string): Promise<void> {
    const exit = await this.find(id).catch(() => undefined);
    if (exit !== undefined) this.#settle(id)?.resolve(exit);
  }

  async #ask(id: string): Promise<void> {
    if (!this.#waiters.has(id)) return;
    // What fails now is tried again on the next round.
    await this.#lost(id).catch(() => {});
    await this.#check(id);
  }

  async #askAll(): Promise<void> {
    for (const id of [...this.#waiters.keys()]) await this.#ask(id);
  }

  #settle(id: string): Waiter | undefined {
    const waiter = this.#waiters.get(id);
    this.#waiters.delete(id);
    if (this.#waiters.size === 0) {
      clearInterval(this.#patrol);
      this.#patrol = undefined;
    }
    return waiter;
  }
}

const closedError = (): EngineError => new EngineError("unavailable", "the runtime is closed");
