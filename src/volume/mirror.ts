/** The calling side of a copy in passes (mirror-task.ts): one task, which remembers, and a pass whenever the caller wants one. */

import type { PassResult } from "../archive/mirror-tree.ts";
import { EngineError } from "../base/errors.ts";
import type { Pool } from "../host/pool.ts";
import { linesOf } from "./lines.ts";
import type { MirrorArgument, MirrorCommand, MirrorMessage } from "./mirror-task.ts";

const tasks = new URL("./mirror-task.ts", import.meta.url);

export type MirrorOptions = MirrorArgument & { readonly pool: Pool; readonly signal?: AbortSignal | undefined };
/** Bytes and entries of a pass so far. */
export type Passed = (passed: { readonly entries: number; readonly bytes: number }) => void;

/** Disposing ends the task; what was copied stays. */
export class MirrorRun implements AsyncDisposable {
  readonly #commands = new Commands();
  readonly #messages: AsyncIterator<string>;
  readonly #result: Promise<void>;

  constructor({ pool, signal, ...argument }: MirrorOptions) {
    const options = { input: this.#commands, ...(signal === undefined ? {} : { signal }) };
    const { output, result } = pool.stream<MirrorArgument, void>(tasks, "mirrorTask", argument, options);
    this.#messages = linesOf(output);
    this.#result = result;
    result.catch(() => undefined);
  }

  /** Durable in the target when it resolves. */
  async pass(command: MirrorCommand, passed: Passed = () => undefined): Promise<PassResult> {
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
