/**
 * Deletes what was removed, in the background and one run at a time. A run that fails leaves the rest in the driver's
 * trash; the next one takes it up, at the latest after a restart.
 */
import type { StorageDriver } from "../storage-driver/driver.ts";

export class Sweeper {
  readonly #driver: StorageDriver;
  readonly #closed = new AbortController();
  #running: Promise<void> | undefined;
  #again = false;

  constructor(driver: StorageDriver) {
    this.#driver = driver;
  }

  /** Starts a run, or lets the one under way be followed by another. */
  start(): void {
    if (this.#closed.signal.aborted) return;
    this.#again = true;
    this.#running ??= this.#run();
  }

  /** Waits until nothing is left to do. */
  async settled(): Promise<void> {
    await this.#running;
  }

  async close(): Promise<void> {
    this.#closed.abort(new Error("the layer store is closing"));
    await this.#running;
  }

  async #run(): Promise<void> {
    try {
      while (this.#again && !this.#closed.signal.aborted) {
        this.#again = false;
        await this.#driver.sweep(this.#closed.signal);
      }
    } catch {
      this.#again = false;
    } finally {
      this.#running = undefined;
    }
  }
}
