/**
 * Tells that a file may have grown or been replaced: inotify on its directory, and a look every half second besides,
 * because not every filesystem tells.
 */
import { type FSWatcher, watch } from "node:fs";
import { dirname } from "node:path";

const safety = 500;

export class FileChanges implements AsyncDisposable {
  readonly #signal: AbortSignal;
  #watcher: FSWatcher | undefined;
  #changed = false;
  #wake: (() => void) | undefined;

  constructor(path: string, signal: AbortSignal) {
    this.#signal = signal;
    try {
      this.#watcher = watch(dirname(path), { persistent: false }, () => this.#tell());
      this.#watcher.on("error", () => this.#watcher?.close());
    } catch {
      // No inotify instances left, or no such directory: the look every half second is enough.
      this.#watcher = undefined;
    }
    signal.addEventListener("abort", this.#onAbort);
  }

  /** Resolves after a change since the last call, after half a second, or when the signal aborts. */
  async next(): Promise<void> {
    if (!this.#changed && !this.#signal.aborted) {
      const { promise, resolve } = Promise.withResolvers<void>();
      const timer = setTimeout(resolve, safety);
      this.#wake = resolve;
      await promise;
      clearTimeout(timer);
    }
    this.#changed = false;
    this.#wake = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#signal.removeEventListener("abort", this.#onAbort);
    this.#watcher?.close();
  }

  readonly #onAbort = (): void => this.#tell();

  #tell(): void {
    this.#changed = true;
    this.#wake?.();
  }
}
