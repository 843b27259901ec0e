/**
 * The one way to paths that may never answer (volumes of networks, FUSE programs and plugins): single calls with a
 * patience, and pools of tasks in child processes. Nothing is started before it is needed.
 */
import { ChildPool } from "./child-pool.ts";
import type { Pool } from "./pool.ts";
import { type Patience, RemoteCalls } from "./remote-calls.ts";

/** Milliseconds that a server may take for one answer. */
const defaultDeadline = 10_000;

export class Remote implements AsyncDisposable {
  readonly calls = new RemoteCalls();
  /** Milliseconds that a server may take for one answer. */
  readonly deadline: number;
  readonly #children = new ChildPool();

  constructor(deadline: number = defaultDeadline) {
    this.deadline = deadline;
  }

  /** `what` is the subject of the sentence that tells of the deadline. */
  patience(what: string): Patience {
    return { deadline: this.deadline, what };
  }

  /** Tasks on what may hang as one thing, `key`. Long ones go on as long as they give a sign of life. */
  pool(key: string, what: string): Pool {
    return this.#children.of({ key, what, quiet: this.deadline * 2 });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.calls[Symbol.asyncDispose](), this.#children[Symbol.asyncDispose]()]);
  }
}
