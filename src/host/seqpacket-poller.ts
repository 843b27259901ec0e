/**
 * One thread that waits for all seqpacket sockets of the process, because Node's own loop cannot. It starts with the
 * first socket and ends a minute after the last, since starting it takes some 40 ms. It reads; writing is done where
 * the bytes are, and the thread only tells when a full socket has room again.
 */
import { MessageChannel, type MessagePort, Worker } from "node:worker_threads";
import { EngineError } from "../base/errors.ts";
import { createEvent, raiseEvent } from "./seqpacket-calls.ts";
import { closeFd } from "./sys.ts";
import { fromPlainError, type PlainError } from "./worker-protocol.ts";

export type ToPoller =
  /** `limit`: bytes that may be on their way to the reader before the thread stops taking more. */
  | { readonly type: "add"; readonly id: number; readonly fd: number; readonly limit: number | undefined }
  /** The thread forgets the socket and closes it. */
  | { readonly type: "remove"; readonly id: number }
  | { readonly type: "await-writable"; readonly id: number }
  | { readonly type: "seen"; readonly id: number; readonly bytes: number }
  | { readonly type: "stop" };

export type FromPoller =
  | { readonly type: "messages"; readonly id: number; readonly messages: readonly Uint8Array<ArrayBuffer>[] }
  | { readonly type: "end"; readonly id: number; readonly error?: PlainError }
  | { readonly type: "writable"; readonly id: number }
  | { readonly type: "removed"; readonly id: number };

export type PollerData = { readonly eventFd: number };

/** What a socket's owner hears. */
export type SocketEvents = {
  readonly onMessages: (messages: readonly Uint8Array[]) => void;
  /** No more messages; once. */
  readonly onEnd: (error: Error | undefined) => void;
  readonly onWritable: () => void;
};

/** A socket in the care of the thread. */
export type PolledSocket = {
  awaitWritable(): void;
  /** With a `limit` only: the reader took so many bytes, so that as many more may come. */
  taken(bytes: number): void;
  /** The descriptor is closed by the thread: do not use it any more. Resolves when that is done. */
  close(): Promise<void>;
};

const idleMs = 60_000;
/** Writing goes on without the thread, only slower. */
const retryMs = 10;
const seenStep = 256 * 1024;
const extension = import.meta.url.endsWith(".ts") ? ".ts" : ".js";

type Entry = {
  readonly fd: number;
  readonly events: SocketEvents;
  readonly limit: number | undefined;
  readonly closed: PromiseWithResolvers<void>;
  unseen: number;
  ended: boolean;
  closing: boolean;
};

class Poller {
  readonly #worker: Worker;
  readonly #port: MessagePort;
  readonly #eventFd = createEvent();
  readonly #entries = new Map<number, Entry>();
  readonly #onExit = (): void => this.#command({ type: "stop" });
  #lastId = 0;
  #idle: NodeJS.Timeout | undefined;
  /** Takes no more sockets. */
  isStopped = false;
  #isGone = false;

  constructor() {
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    this.#worker = new Worker(new URL(`./seqpacket-worker${extension}`, import.meta.url), {
      workerData: { eventFd: this.#eventFd, port: port2 },
      transferList: [port2],
      trackUnmanagedFds: false,
      // Options of this process, as --eval or --test, are not for its threads.
      execArgv: [],
      resourceLimits: { maxOldGenerationSizeMb: 128, maxYoungGenerationSizeMb: 8 },
    });
    let failure: unknown;
    this.#worker.once("error", (error) => {
      failure = error;
    });
    this.#worker.once("exit", () => this.#ended(failure));
    port1.on("message", (message: FromPoller) => this.#handle(message));
    // The end of the process waits for its threads, and this one sleeps.
    process.once("exit", this.#onExit);
    this.#rest();
  }

  #command(command: ToPoller): void {
    if (this.isStopped) return;
    if (command.type === "stop") this.isStopped = true;
    this.#port.postMessage(command);
    raiseEvent(this.#eventFd);
  }

  add(fd: number, events: SocketEvents, limit: number | undefined): PolledSocket {
    const id = ++this.#lastId;
    const entry = { fd, events, limit, closed: Promise.withResolvers<void>(), unseen: 0, ended: false, closing: false };
    this.#entries.set(id, entry);
    clearTimeout(this.#idle);
    this.#worker.ref();
    this.#port.ref();
    this.#command({ type: "add", id, fd, limit });
    return {
      awaitWritable: () => {
        if (this.#isGone) setTimeout(events.onWritable, retryMs);
        else this.#command({ type: "await-writable", id });
      },
      taken: (bytes) => this.#seen(id, entry, bytes),
      close: () => this.#close(id, entry),
    };
  }

  #close(id: number, entry: Entry): Promise<void> {
    if (entry.closing) return entry.closed.promise;
    entry.closing = true;
    if (this.#isGone) this.#closeHere(entry);
    else this.#command({ type: "remove", id });
    return entry.closed.promise;
  }

  #closeHere(entry: Entry): void {
    closeFd(entry.fd);
    entry.closed.resolve();
  }

  /** Without sockets the thread keeps nobody waiting, and soon ends. */
  #rest(): void {
    this.#worker.unref();
    this.#port.unref();
    clearTimeout(this.#idle);
    this.#idle = setTimeout(() => this.#command({ type: "stop" }), idleMs).unref();
  }

  #handle(message: FromPoller): void {
    const entry = this.#entries.get(message.id);
    if (entry === undefined) return;
    if (message.type === "messages") {
      const bytes = message.messages.reduce((sum, { length }) => sum + length, 0);
      if (entry.limit === undefined) this.#seen(message.id, entry, bytes);
      entry.events.onMessages(message.messages);
    } else if (message.type === "writable") entry.events.onWritable();
    else if (message.type === "end") {
      entry.ended = true;
      entry.events.onEnd(message.error === undefined ? undefined : fromPlainError(message.error));
    } else {
      this.#entries.delete(message.id);
      entry.closed.resolve();
      if (this.#entries.size === 0) this.#rest();
    }
  }

  #seen(id: number, entry: Entry, bytes: number): void {
    entry.unseen += bytes;
    if (entry.unseen < Math.min(seenStep, (entry.limit ?? seenStep) / 4) || this.#isGone) return;
    this.#command({ type: "seen", id, bytes: entry.unseen });
    entry.unseen = 0;
  }

  #ended(failure: unknown): void {
    this.isStopped = true;
    process.removeListener("exit", this.#onExit);
    clearTimeout(this.#idle);
    this.#port.close();
    closeFd(this.#eventFd);
    const error = new EngineError("internal", "the thread that reads attached containers ended", { cause: failure });
    this.#isGone = true;
    for (const entry of this.#entries.values()) {
      if (entry.closing) this.#closeHere(entry);
      else if (!entry.ended) entry.events.onEnd(error);
      entry.events.onWritable();
    }
    this.#entries.clear();
  }
}

let poller: Poller | undefined;

function running(): Poller {
  if (poller === undefined || poller.isStopped) poller = new Poller();
  return poller;
}

/** Starts the thread for a socket that will soon come. */
export function preparePoller(): void {
  running();
}

/** Hands a connected socket over to the thread, which owns the descriptor from now on. */
export function pollSocket(fd: number, events: SocketEvents, limit?: number): PolledSocket {
  return running().add(fd, events, limit);
}
