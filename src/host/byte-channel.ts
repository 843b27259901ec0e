/**
 * Bytes between threads with back-pressure: an *outlet* sends, an *inlet* on the other side is read, and the inlet
 * gives credit back as its reader takes bytes. At most `windowSize` (and one chunk) is on its way.
 *
 * Chunks are copied once and then transferred, so a writer may use its buffer again, and small writes travel together.
 */
import type { Chunk } from "./worker-protocol.ts";

/** Bytes that may be sent and not yet taken. */
export const windowSize = 1024 * 1024;
const packetSize = 64 * 1024;
const largestChunk = 256 * 1024;

export class Outlet {
  readonly #send: (chunk: Chunk) => void;
  #packet: Chunk | undefined;
  #filled = 0;
  #inFlight = 0;
  #discarding = false;
  #failure: { readonly error: unknown } | undefined;
  #flushing: NodeJS.Immediate | undefined;
  #waiting: (() => void)[] = [];

  constructor(send: (chunk: Chunk) => void) {
    this.#send = send;
  }

  /** Everything that was written was also taken. */
  get isDrained(): boolean {
    return this.#inFlight === 0 && this.#filled === 0;
  }

  /** Resolves when the bytes are on their way or packed; wait for it before the next. */
  async write(chunk: Uint8Array): Promise<void> {
    for (let at = 0; at < chunk.length; ) {
      while (this.#inFlight >= windowSize && !this.#discarding && this.#failure === undefined)
        await new Promise<void>((resolve) => this.#waiting.push(resolve));
      if (this.#failure !== undefined) throw this.#failure.error;
      if (this.#discarding) return;
      at += this.#pack(chunk, at);
    }
  }

  /** Copies a part of `chunk` and returns its length. */
  #pack(chunk: Uint8Array, at: number): number {
    const left = chunk.length - at;
    if (this.#filled === 0 && left >= packetSize) {
      const length = Math.min(left, largestChunk);
      const large = new Uint8Array(length);
      large.set(chunk.subarray(at, at + length));
      // Once sent, `large` is detached and has no length any more.
      this.#post(large);
      return length;
    }
    this.#packet ??= new Uint8Array(packetSize);
    const length = Math.min(left, packetSize - this.#filled);
    this.#packet.set(chunk.subarray(at, at + length), this.#filled);
    this.#filled += length;
    if (this.#filled === packetSize) this.flush();
    // What is packed does not wait for more when its writer turns to something else.
    else this.#flushing ??= setImmediate(() => this.flush());
    return length;
  }

  /** Sends what is packed. */
  flush(): void {
    clearImmediate(this.#flushing);
    this.#flushing = undefined;
    if (this.#packet === undefined || this.#filled === 0) return;
    const full = this.#filled === packetSize ? this.#packet : this.#packet.slice(0, this.#filled);
    this.#packet = undefined;
    this.#filled = 0;
    this.#post(full);
  }

  #post(chunk: Chunk): void {
    if (this.#discarding || this.#failure !== undefined) return;
    this.#inFlight += chunk.length;
    this.#send(chunk);
  }

  credit(bytes: number): void {
    this.#inFlight -= bytes;
    if (this.#inFlight < windowSize) this.#wake();
  }

  /** Nobody reads any more: later writes go nowhere, and succeed. */
  discard(): void {
    this.#discarding = true;
    this.#inFlight = 0;
    this.#wake();
  }

  /** Lets every present and later write throw `error`. */
  fail(error: unknown): void {
    this.#failure ??= { error };
    this.#wake();
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }
}

export type InletEvents = {
  readonly onCredit: (bytes: number) => void;
  /** The reader left before the end. */
  readonly onDiscard: () => void;
};

type Pending = {
  readonly resolve: (result: IteratorResult<Uint8Array>) => void;
  readonly reject: (error: unknown) => void;
};

/** The reading side; for one reader. */
export class Inlet implements AsyncIterableIterator<Uint8Array> {
  readonly #events: InletEvents;
  readonly #queue: Uint8Array[] = [];
  #uncredited = 0;
  #taken = 0;
  #state: "open" | "ended" | "left" = "open";
  #failure: { readonly error: unknown } | undefined;
  #reader: Pending | undefined;

  constructor(events: InletEvents) {
    this.#events = events;
  }

  /** The writer can send no more until somebody reads. */
  get isFull(): boolean {
    return this.#uncredited >= windowSize;
  }

  push(chunk: Uint8Array): void {
    if (this.#state !== "open") return;
    this.#uncredited += chunk.length;
    this.#queue.push(chunk);
    this.#serve();
  }

  /** No more bytes; with `failure` the reader gets its error after those that came. */
  end(failure?: { readonly error: unknown }): void {
    if (this.#state !== "open") return;
    this.#state = "ended";
    this.#failure = failure;
    this.#serve();
  }

  /** The reader gets `error` at once; unread bytes are dropped. */
  fail(error: unknown): void {
    if (this.#state === "left") return;
    this.#queue.length = 0;
    this.#state = "ended";
    this.#failure = { error };
    this.#serve();
  }

  #serve(): void {
    const reader = this.#reader;
    if (reader === undefined) return;
    const chunk = this.#queue.shift();
    if (chunk === undefined && this.#state === "open") return;
    this.#reader = undefined;
    if (chunk !== undefined) {
      this.#take(chunk.length);
      reader.resolve({ done: false, value: chunk });
    } else if (this.#failure !== undefined) {
      const { error } = this.#failure;
      this.#failure = undefined;
      reader.reject(error);
    } else reader.resolve({ done: true, value: undefined });
  }

  #take(bytes: number): void {
    this.#taken += bytes;
    if (this.#taken < windowSize / 4 && this.#queue.length > 0) return;
    this.#uncredited -= this.#taken;
    const taken = this.#taken;
    this.#taken = 0;
    this.#events.onCredit(taken);
  }

  next(): Promise<IteratorResult<Uint8Array>> {
    if (this.#reader !== undefined) return Promise.reject(new Error("these bytes have one reader, who waits already"));
    return new Promise((resolve, reject) => {
      this.#reader = { resolve, reject };
      this.#serve();
    });
  }

  return(): Promise<IteratorResult<Uint8Array>> {
    const wasOpen = this.#state === "open";
    this.#state = "left";
    this.#queue.length = 0;
    this.#uncredited = 0;
    this.#failure = undefined;
    this.#serve();
    if (wasOpen) this.#events.onDiscard();
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}
