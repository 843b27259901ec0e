/**
 * One holder at a time for each name: what is done to a volume is done in order, and volumes do not wait for each
 * other. In memory only; a crash frees every lock, and start-up mends what was half-done.
 */
export class NameLocks {
  readonly #tails = new Map<string, Promise<void>>();

  /** Runs `work` when all earlier work on `name` has ended, whether well or not. */
  async run<T>(name: string, work: () => Promise<T>): Promise<T> {
    using _turn = await this.take(name);
    return await work();
  }

  /** As {@link run}, until it is disposed. */
  async take(name: string): Promise<Disposable> {
    const before = this.#tails.get(name) ?? Promise.resolve();
    const { promise: tail, resolve: end } = Promise.withResolvers<void>();
    this.#tails.set(name, tail);
    await before;
    return {
      [Symbol.dispose]: () => {
        end();
        if (this.#tails.get(name) === tail) this.#tails.delete(name);
      },
    };
  }
}
