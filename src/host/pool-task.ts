/**
 * One task of a pool, as the pool's side sees it: it waits, then it runs on a thread, then it is settled. It pumps its
 * input to the thread, hands its output to the caller, and passes an abort on.
 */
import { Inlet, Outlet } from "./byte-channel.ts";
import type { TaskOptions } from "./pool.ts";
import { type FromWorker, fromPlainError, type ToWorker, toPlainError } from "./worker-protocol.ts";

export type TaskCall = {
  readonly id: number;
  readonly module: string;
  readonly name: string;
  readonly argument: unknown;
};

export type TaskEvents = {
  /** The task may have begun or ended to wait for bytes. */
  readonly onProgress: () => void;
  readonly onSettled: () => void;
};

/** The thread of a running task. */
export type TaskHost = {
  readonly slot: number;
  readonly post: (message: ToWorker, transfer?: ArrayBuffer[]) => void;
  /** Sets the flag that synchronous code sees. */
  readonly raiseAbort: () => void;
};

export class PoolTask {
  readonly output: Inlet;
  readonly result: Promise<unknown>;
  readonly #call: TaskCall;
  readonly #options: TaskOptions;
  readonly #events: TaskEvents;
  readonly #input: Outlet;
  readonly #settle = Promise.withResolvers<unknown>();
  readonly #onAbort = (): void => this.abort(this.#options.signal?.reason);
  #state: "waiting" | "running" | "settled" = "waiting";
  #host: TaskHost | undefined;
  #source: AsyncIterator<Uint8Array> | undefined;
  #outputLeft = false;
  #aborted: { readonly reason: unknown } | undefined;

  constructor(call: TaskCall, options: TaskOptions, events: TaskEvents) {
    this.#call = call;
    this.#options = options;
    this.#events = events;
    this.result = this.#settle.promise;
    // A caller that first reads the output must not be blamed for a result that it has not asked for yet.
    this.result.catch(() => undefined);
    const post = (message: ToWorker, transfer?: ArrayBuffer[]): void => this.#host?.post(message, transfer);
    this.#input = new Outlet((chunk) => post({ type: "data", task: call.id, chunk }, [chunk.buffer]), {
      reuse: true,
    });
    this.output = new Inlet({
      onCredit: (bytes, packets) => post({ type: "credit", task: call.id, bytes, packets }, packets),
      onDiscard: () => {
        this.#outputLeft = true;
        post({ type: "discard", task: call.id });
      },
    });
    options.signal?.addEventListener("abort", this.#onAbort, { once: true });
  }

  get id(): number {
    return this.#call.id;
  }

  get name(): string {
    return this.#call.name;
  }

  get slot(): number {
    return this.#host?.slot ?? -1;
  }

  /** It waits for bytes, or for somebody to take its bytes, and leaves its thread free meanwhile. */
  get isStalled(): boolean {
    return this.output.isFull || (this.#source !== undefined && this.#input.isDrained);
  }

  start(host: TaskHost): void {
    this.#host = host;
    this.#state = "running";
    const { id: task, module, name, argument } = this.#call;
    const { signal, input } = this.#options;
    try {
      host.post({ type: "run", task, slot: host.slot, module, name, argument });
    } catch (error) {
      // An argument that cannot be cloned.
      this.reject(error);
      return;
    }
    if (this.#outputLeft) host.post({ type: "discard", task });
    if (signal?.aborted === true) this.abort(signal.reason);
    if (input === undefined) host.post({ type: "end", task });
    else void this.#pump(host, input);
  }

  async #pump(host: TaskHost, input: AsyncIterable<Uint8Array>): Promise<void> {
    const task = this.id;
    try {
      const source = input[Symbol.asyncIterator]();
      this.#source = source;
      while (this.#source !== undefined) {
        const { done, value } = await source.next();
        if (done === true) break;
        await this.#input.write(value);
      }
      this.#input.flush();
      host.post({ type: "end", task });
    } catch (error) {
      this.#input.flush();
      host.post({ type: "end", task, error: toPlainError(error) });
    }
    this.#source = undefined;
  }

  handle(message: FromWorker): void {
    if (message.type === "data") this.output.push(message.chunk);
    else if (message.type === "credit") this.#input.credit(message.bytes, message.packets);
    else if (message.type === "discard") this.#leaveInput();
    else if (message.type === "failed") this.reject(fromPlainError(message.error));
    else this.#finish(() => this.#settle.resolve(message.result));
    if (message.type === "data" || message.type === "credit") this.#events.onProgress();
  }

  /** Asks the task to end; it settles when its function did. One that still waits for a thread settles now. */
  abort(reason: unknown): void {
    if (this.#state === "settled" || this.#aborted !== undefined) return;
    this.#aborted = { reason };
    if (this.#state === "waiting") {
      this.reject(reason);
      return;
    }
    this.#leaveInput();
    this.#host?.raiseAbort();
    this.#host?.post({ type: "abort", task: this.id });
  }

  reject(error: unknown): void {
    const failure = this.#aborted === undefined ? error : this.#aborted.reason;
    this.#finish(() => this.#settle.reject(failure), { error: failure });
  }

  #finish(settle: () => void, failure?: { readonly error: unknown }): void {
    if (this.#state === "settled") return;
    this.#state = "settled";
    this.#options.signal?.removeEventListener("abort", this.#onAbort);
    this.#leaveInput();
    this.output.end(failure);
    settle();
    this.#events.onSettled();
  }

  /** The source of the input learns that nobody wants the rest, so that it can give back what it holds. */
  #leaveInput(): void {
    this.#input.discard();
    const source = this.#source;
    this.#source = undefined;
    source?.return?.()?.then(undefined, () => undefined);
  }
}
