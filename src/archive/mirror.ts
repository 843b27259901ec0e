/** The calling side of a copy in passes (mirror-task.ts): one task, which remembers, and a pass whenever the caller wants one. */

import { EngineError } from "../base/errors.ts";
import type { Pool } from "../host/pool.ts";
import { linesOf } from "./lines.ts";
import type { MirrorArgument, MirrorCommand, MirrorMessage } from "./mirror-task.ts";
import type { Passed, PassResult } from "./mirror-tree.ts";

const tasks = new URL("./mirror-task.ts", import.meta.url);

/** Passes while the source is in use. */
const mostPasses = 4;
/** A pass that copied less is followed by the last one. */
const little = 64 * 2 ** 20;

export type MirrorOptions = {
  readonly pool: Pool;
  readonly signal?: AbortSignal | undefined;
  /** A task that ends in `mirrorPasses`. */
  readonly task: { readonly module: URL; readonly name: string; readonly argument: object };
};
/** Bytes and entries of a pass so far. */
export type TellPassed = (passed: Passed) => void;

/** Between two directories. */
export function mirrorOf({ pool, signal, ...argument }: Omit<MirrorOptions, "task"> & MirrorArgument): MirrorRun {
  return new MirrorRun({ pool, signal, task: { module: tasks, name: "mirrorTask", argument } });
}

/** Disposing ends the task; what was copied stays. */
export class MirrorRun implements AsyncDisposable {
  readonly #commands = new Commands();
  readonly #messages: AsyncIterator<string>;
  readonly #result: Promise<void>;

  constructor({ pool, signal, task: { module, name, argument } }: MirrorOptions) {
    const options = { input: this.#commands, ...(signal === undefined ? {} : { signal }) };
    const { output, result } = pool.stream<object, void>(module, name, argument, options);
    this.#messages = linesOf(output);
    this.#result = result;
    result.catch(() => undefined);
  }

  /** Durable in the target when it resolves. */
  async pass(command: MirrorCommand, passed: TellPassed = () => undefined): Promise<PassResult> {
    this.#commands.give(command);
    for (;;) {
      const { done, value } = await this.#messages.next();
      if (done === true) break;
      const message = JSON.parse(value) as MirrorMessage;
      if ("done" in message) return message.done;
      passed(message.passed);
    }
    await this.#result;
    throw new EngineError("internal", "the copy ended before its pass did");
  }

  /**
   * Passes while others write to the source, until the last one will be short; with `toTheEnd` until one has found nothing, where
   * that comes soon. Resolves to all that was copied, and the last of them.
   */
  async live(passed: TellPassed, toTheEnd = false): Promise<{ readonly copied: number; readonly last: PassResult }> {
    let copied = 0;
    for (let pass = 1; ; pass++) {
      const last = await this.pass({ kind: "live" }, passed);
      copied += last.copied;
      const enough = toTheEnd ? pass > 1 && last.changed + last.missed === 0 : last.copied < little;
      if (enough || pass === mostPasses) return { copied, last };
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#commands.end();
    await this.#messages.return?.();
    await this.#result.catch(() => undefined);
  }
}

/** Commands as the input of a task: it waits for each. */
class Commands implements AsyncIterableIterator<Uint8Array> {
  #next = Promise.withResolvers<MirrorCommand | undefined>();
  #give = this.#next;

  give(command: MirrorCommand): void {
    this.#give.resolve(command);
  }

  end(): void {
    this.#give.resolve(undefined);
  }

  async next(): Promise<IteratorResult<Uint8Array>> {
    const command = await this.#next.promise;
    if (command === undefined) return { done: true, value: undefined };
    this.#next = this.#give = Promise.withResolvers();
    return { done: false, value: Buffer.from(`${JSON.stringify(command)}\n`) };
  }

  async return(): Promise<IteratorResult<Uint8Array>> {
    this.end();
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}
