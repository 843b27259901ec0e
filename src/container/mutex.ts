/** One at a time, in the order of asking: a container's changes of state. Readers never wait. Not reentrant. */
export class Mutex {
  #tail: Promise<unknown> = Promise.resolve();

  /** Runs `work` when everything asked before has settled; a failure of one does not stop the next. */
  run<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#tail.then(work, work);
    this.#tail = result.catch(() => undefined);
    return result;
  }
}
