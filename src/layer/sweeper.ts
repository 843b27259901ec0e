/**
 * What was removed goes, in the background and one run at a time. A run that fails leaves the rest in the driver's
 * trash; the next one takes it up, half a minute later when nothing else is removed meanwhile.
 *
 * A removal is true once its record says so; what follows on disk is carried out at once, and what fails of it is *owed*: tried
 * again by every run, and by the next start, which finds it by the records.
 */
import type { StorageDriver } from "../storage-driver/driver.ts";

/** How long a debt, or a run that failed, waits when nothing else is removed meanwhile. */
const retryMs = 30_000;

export class Sweeper {
  readonly #driver: StorageDriver;
  readonly #closed = new AbortController();
  readonly #owed = new Map<string, () => Promise<void>>();
  #reminder: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;
  #again = false;
  #failed = false;
  #waiting = 0;

  constructor(driver: StorageDriver) {
    this.#driver = driver;
  }

  /** Does what follows a removal of `id`. It may be done twice; `again` is what a later run does in its place. */
  async carryOut(id: string, work: () => Promise<void>, again = work): Promise<void> {
    try {
      await work();
    } catch {
      this.#owed.set(id, again);
      this.start();
    }
  }

  /** Tries again what is owed, in the order in which it failed: children before their parents. */
  async settleDebts(): Promise<void> {
    for (const [id, work] of this.#owed) {
      if (this.#closed.signal.aborted) return;
      try {
        await work();
        this.#owed.delete(id);
      } catch {
        // Tried again by the next run.
      }
    }
  }

  /** Bytes that were removed and are not deleted yet, by the sizes they were known by. What an earlier life left is not among them. */
  get waiting(): number {
    return this.#waiting;
  }

  /** That much has gone to the trash. */
  add(bytes: number): void {
    this.#waiting += bytes;
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
    clearTimeout(this.#reminder);
    this.#closed.abort(new Error("the layer store is closing"));
    await this.#running;
  }

  #remind(): void {
    clearTimeout(this.#reminder);
    if ((this.#failed || this.#owed.size > 0) && !this.#closed.signal.aborted)
      this.#reminder = setTimeout(() => this.start(), retryMs).unref();
  }

  async #run(): Promise<void> {
    this.#failed = false;
    try {
      while (this.#again && !this.#closed.signal.aborted) {
        this.#again = false;
        await this.settleDebts();
        const seen = this.#waiting;
        await this.#driver.sweep(this.#closed.signal);
        this.#waiting -= seen;
      }
    } catch {
      this.#again = false;
      this.#failed = true;
    } finally {
      this.#running = undefined;
      this.#remind();
    }
  }
}
