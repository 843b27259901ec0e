/**
 * Bytes between threads with back-pressure: an *outlet* sends, an *inlet* on the other side is read, and the inlet
 * gives credit back as its reader takes bytes. At most `windowSize` (and one packet) is on its way.
 *
 * Bytes are copied into packets, which are transferred: a writer may use its buffer again, and small writes travel
 * together. With `reuse` on both sides the packets come back with the credit and are filled again, so that a long
 * stream makes no garbage (which is collected late, since it is not on the heap); a reader's chunk is then good only
 * until it asks for the next.
 */
import type { Chunk } from "./worker-protocol.ts";

/** Bytes that may be sent and not yet taken. */
export const windowSize = 1024 * 1024;
const packetSize = 128 * 1024;

export type ChannelOptions = { readonly reuse?: boolean };

export class Outlet {
  readonly #send: (chunk: Chunk) => void;
  readonly #reuse: boolean;
  readonly #free: ArrayBuffer[] = [];
  #packet: Chunk | undefined;
  #filled = 0;
  #inFlight = 0;
  #discarding = false;
  #failure: { readonly error: unknown } | undefined;
  #flushing: NodeJS.Immediate | undefined;
  #waiting: (() => void)[] = [];

  constructor(send: (chunk: Chunk) => void, { reuse = false }: ChannelOptions = {}) {
    this.#send = send;
    this.#reuse = reuse;
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
    this.#packet ??= new Uint8Array(this.#free.pop() ?? new ArrayBuffer(packetSize));
    const length = Math.min(chunk.length - at, packetSize - this.#filled);
    this.#packet.set(chunk.subarray(at, at + length), this.#filled);
    this.#filled += length;
    if (this.#filled === packetSize) this.flush();
    // What is packed does not wait for more when its reader has nothing left and its writer turns to something else.
    else this.#flushing ??= setImmediate(() => this.#flushWhenAwaited());
    return length;
  }

  #flushWhenAwaited(): void {
    this.#flushing = undefined;
    if (this.#inFlight === 0) this.flush();
  }

  /** Sends what is packed. */
  flush(): void {
    clearImmediate(this.#flushing);
    this.#flushing = undefined;
    if (this.#packet === undefined || this.#filled === 0) return;
    const packed = this.#packet.subarray(0, this.#filled);
    const full = this.#filled === packetSize;
    this.#packet = undefined;
    this.#filled = 0;
    // A packet that does not come back is not worth its whole buffer.
    this.#post(full || this.#reuse ? packed : packed.slice());
  }

  #post(chunk: Chunk): void {
    if (this.#discarding || this.#failure !== undefined) return;
    this.#inFlight += chunk.length;
    this.#send(chunk);
  }

  /** `packets` are those that came back. */
  credit(bytes: number, packets: readonly ArrayBuffer[] = []): void {
    this.#free.push(...packets);
    this.#inFlight -= bytes;
    if (this.#inFlight === 0) this.flush();
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
  /** The reader took `bytes`; `packets` (with `reuse`) go back to the outlet. */
  readonly onCredit: (bytes: number, packets: ArrayBuffer[]) => void;
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
  readonly #reuse: boolean;
  readonly #queue: Chunk[] = [];
  #lent: Chunk | undefined;
  #returned: ArrayBuffer[] = [];
  #uncredited = 0;
  #taken = 0;
  #state: "open" | "ended" | "left" = "open";
  #failure: { readonly error: unknown } | undefined;
  #reader: Pending | undefined;

  constructor(events: InletEvents, { reuse = false }: ChannelOptions = {}) {
    this.#events = events;
    this.#reuse = reuse;
  }

  /** The writer can send no more until somebody reads. */
  get isFull(): boolean {
    return this.#uncredited >= windowSize;
  }

  push(chunk: Chunk): void {
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
      if (this.#reuse) this.#lent = chunk;
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
    const returned = this.#returned;
    this.#taken = 0;
    this.#returned = [];
    this.#events.onCredit(taken, returned);
  }

  next(): Promise<IteratorResult<Uint8Array>> {
    if (this.#reader !== undefined) return Promise.reject(new Error("these bytes have one reader, who waits already"));
    if (this.#lent !== undefined) this.#returned.push(this.#lent.buffer);
    this.#lent = undefined;
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
