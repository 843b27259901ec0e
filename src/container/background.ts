/**
 * Work that nobody waits for: lazy writes, restarts, removals of `--rm`. It is counted, its failures are reported, and
 * closing the service waits for it.
 */
export type Report = (message: string, error: unknown) => void;

export class BackgroundTasks {
  readonly #running = new Set<Promise<void>>();
  readonly #report: Report;

  constructor(report: Report) {
    this.#report = report;
  }

  /** `what` completes the sentence "could not ...". */
  start(what: string, work: Promise<unknown>): void {
    const task: Promise<void> = work
      .then(
        () => undefined,
        (error: unknown) => this.#report(`could not ${what}`, error),
      )
      .finally(() => this.#running.delete(task));
    this.#running.add(task);
  }

  /** Resolves when nothing is under way, also not what other work started meanwhile. */
  async settled(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running);
  }
}
