/**
 * A client of Unix sockets that keep messages apart (SOCK_SEQPACKET), which Node's `net` cannot open: conmon's attach
 * socket is one. There each message from conmon is one byte that says the stream (2 stdout, 3 stderr) and its data;
 * what is sent to conmon goes to stdin as it is.
 *
 * Promises: messages arrive whole and in order, and no more than a limit are queued here. Beyond it a reader is told at
 * once that it is too slow; or, with `stallMs`, the other end waits (conmon's write blocks, and the container with it)
 * until the reader goes on, and only one that takes nothing for so long is cut off.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { EngineError, errorMessage, systemCode } from "../base/errors.ts";
import { connectSocket, sendMessage, shutdownWriting } from "./seqpacket-calls.ts";
import { type PolledSocket, pollSocket } from "./seqpacket-poller.ts";

export type SeqpacketOptions = {
  /** Bytes that may wait for the reader; 1 MiB by default. */
  readonly maxQueued?: number;
  /** Let the other end wait for the reader, at most so many milliseconds. */
  readonly stallMs?: number;
  readonly signal?: AbortSignal;
};

export interface SeqpacketConnection extends AsyncDisposable {
  /** For one reader. Ends when the other end has closed and all was read, or with `close`. `unavailable`: too slow. */
  readonly messages: AsyncIterableIterator<Uint8Array>;
  /** Sends bytes, cut into messages of at most 8 KiB; resolves when the socket took them. `unavailable`: nobody is there. */
  write(data: Uint8Array): Promise<void>;
  /** The other end sees the end of our bytes, after all that was written; its messages still come. Idempotent. */
  shutdownWrite(): Promise<void>;
  /** Idempotent. Queued messages are dropped. */
  close(): Promise<void>;
}

/** conmon reads at most 32 KiB of a message and drops the rest. */
const packetSize = 8192;
const connectTries = 100;

/** Connects to the socket at `path`, of any length. `unavailable`, with the system's error as cause, when nobody listens. */
export async function connectSeqpacket(path: string, options: SeqpacketOptions = {}): Promise<SeqpacketConnection> {
  for (let attempt = 1; ; attempt++) {
    options.signal?.throwIfAborted();
    try {
      return new Connection(connectSocket(path), options);
    } catch (error) {
      // Too many callers at once: the other end takes them one by one.
      if (systemCode(error) !== "EAGAIN" || attempt >= connectTries)
        throw new EngineError("unavailable", `cannot connect to ${path}: ${errorMessage(error)}`, { cause: error });
    }
    await sleep(10, undefined, options.signal === undefined ? {} : { signal: options.signal });
  }
}

type Reader = PromiseWithResolvers<IteratorResult<Uint8Array>>;
const finished: IteratorResult<Uint8Array> = { done: true, value: undefined };

class Connection implements SeqpacketConnection {
  readonly messages: AsyncIterableIterator<Uint8Array>;
  readonly #fd: number;
  readonly #maxQueued: number;
  readonly #stallMs: number | undefined;
  #stall: NodeJS.Timeout | undefined;
  readonly #socket: PolledSocket;
  readonly #readers: Reader[] = [];
  #queue: Uint8Array[] = [];
  #queued = 0;
  #ended = false;
  #failure: Error | undefined;
  #closed: Promise<void> | undefined;
  #writing: Promise<void> = Promise.resolve();
  #onWritable: (() => void) | undefined;

  constructor(fd: number, options: SeqpacketOptions) {
    this.#fd = fd;
    this.#maxQueued = options.maxQueued ?? 1024 * 1024;
    this.#stallMs = options.stallMs;
    const events = {
      onMessages: (messages: readonly Uint8Array[]) => this.#receive(messages),
      onEnd: (error: Error | undefined) => this.#end(error),
      onWritable: () => this.#onWritable?.(),
    };
    this.#socket = pollSocket(fd, events, this.#stallMs === undefined ? undefined : this.#maxQueued);
    this.messages = {
      next: () => this.#next(),
      return: async () => {
        await this.close();
        return finished;
      },
      [Symbol.asyncIterator]: () => this.messages,
    };
  }

  #receive(messages: readonly Uint8Array[]): void {
    if (this.#ended) return;
    for (const message of messages) {
      const reader = this.#readers.shift();
      if (reader !== undefined) {
        if (this.#stallMs !== undefined) this.#socket.taken(message.length);
        reader.resolve({ done: false, value: message });
        continue;
      }
      this.#queue.push(message);
      this.#queued += message.length;
    }
    if (this.#queued === 0) return;
    if (this.#stallMs !== undefined) this.#stall ??= setTimeout(() => this.#cutOff(), this.#stallMs);
    else if (this.#queued > this.#maxQueued) this.#cutOff();
  }

  #cutOff(): void {
    if (this.#ended) return;
    // With little in the queue nobody is held up: the reader may sleep on.
    if (this.#stallMs !== undefined && this.#queued < this.#maxQueued / 2) {
      this.#stall?.refresh();
      return;
    }
    this.#queue = [];
    this.#end(new EngineError("unavailable", `the reader was too slow: more than ${this.#queued} bytes waited for it`));
    void this.close();
  }

  /** The reader took a message: the clock of a stall begins anew, or stops. */
  #took(bytes: number): void {
    this.#queued -= bytes;
    if (this.#stallMs === undefined) return;
    this.#socket.taken(bytes);
    if (this.#queued > 0) this.#stall?.refresh();
    else this.#stopClock();
  }

  #stopClock(): void {
    clearTimeout(this.#stall);
    this.#stall = undefined;
  }

  #end(error: Error | undefined): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#failure = error;
    for (const reader of this.#readers.splice(0)) this.#finish(reader);
  }

  /** The first to ask after a failure hears of it. */
  #finish(reader: Reader): void {
    const failure = this.#failure;
    this.#failure = undefined;
    if (failure === undefined) reader.resolve(finished);
    else reader.reject(failure);
  }

  #next(): Promise<IteratorResult<Uint8Array>> {
    const message = this.#queue.shift();
    if (message !== undefined) {
      this.#took(message.length);
      return Promise.resolve({ done: false, value: message });
    }
    const reader: Reader = Promise.withResolvers();
    if (this.#ended) this.#finish(reader);
    else this.#readers.push(reader);
    return reader.promise;
  }

  write(data: Uint8Array): Promise<void> {
    return this.#inOrder(() => this.#send(data));
  }

  shutdownWrite(): Promise<void> {
    return this.#inOrder(async () => {
      if (this.#closed === undefined) shutdownWriting(this.#fd);
    });
  }

  #inOrder(action: () => Promise<void>): Promise<void> {
    const done = this.#writing.then(action);
    this.#writing = done.catch(() => undefined);
    return done;
  }

  async #send(data: Uint8Array): Promise<void> {
    for (let at = 0; at < data.length; at += packetSize) {
      const packet = data.subarray(at, at + packetSize);
      while (!this.#trySend(packet)) await this.#writable();
    }
  }

  #trySend(packet: Uint8Array): boolean {
    // The descriptor may be another file's by now.
    if (this.#closed !== undefined) throw new EngineError("unavailable", "the connection is closed");
    try {
      return sendMessage(this.#fd, packet);
    } catch (error) {
      const gone = systemCode(error) === "EPIPE" || systemCode(error) === "ECONNRESET";
      if (!gone) throw error;
      throw new EngineError("unavailable", "the other end of the connection is closed", { cause: error });
    }
  }

  #writable(): Promise<void> {
    return new Promise((resolve) => {
      this.#onWritable = () => {
        this.#onWritable = undefined;
        resolve();
      };
      this.#socket.awaitWritable();
    });
  }

  close(): Promise<void> {
    if (this.#closed !== undefined) return this.#closed;
    this.#closed = this.#socket.close();
    this.#queue = [];
    this.#stopClock();
    this.#end(undefined);
    // Who waits to write hears that it is closed.
    this.#onWritable?.();
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
