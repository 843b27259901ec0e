/**
 * Layers that someone is about to use, counted in memory: after a crash whatever they protected is not acknowledged
 * and goes. While a collection takes a layer away, asking for it waits until that is settled.
 */
export class Leases {
  readonly #counts = new Map<string, number>();
  readonly #doomed = new Map<string, Promise<void>>();

  take(id: string): void {
    this.#counts.set(id, (this.#counts.get(id) ?? 0) + 1);
  }

  /** Gives one back; true when it was the last. */
  give(id: string): boolean {
    const count = (this.#counts.get(id) ?? 0) - 1;
    if (count > 0) this.#counts.set(id, count);
    else this.#counts.delete(id);
    return count <= 0;
  }

  has(id: string): boolean {
    return this.#counts.has(id);
  }

  /** Nobody gets a lease on `ids` until `work` has settled. */
  async doom<T>(ids: readonly string[], work: () => Promise<T>): Promise<T> {
    const settled = Promise.withResolvers<void>();
    for (const id of ids) this.#doomed.set(id, settled.promise);
    try {
      return await work();
    } finally {
      for (const id of ids) this.#doomed.delete(id);
      settled.resolve();
    }
  }

  /** Undefined when `id` may be leased at once, else a wait after which its record must be looked up again. */
  blocked(id: string): Promise<void> | undefined {
    return this.#doomed.get(id);
  }
}
