/**
 * Long answers: bytes or JSON messages written as they come, with back-pressure, ended when the client goes away or the
 * server stops. A stream that fails before its first byte is an ordinary error; after that JSON streams say so in their
 * last message, and byte streams are cut off.
 */
import type { ServerResponse } from "node:http";
import type { FastifyReply } from "fastify";
import { EngineError } from "../../base/errors.ts";
import { commonHeaders, describeError, sendError } from "./respond.ts";

const waitingLimit = 8 * 1024 * 1024;

type Headers = Readonly<Record<string, string>>;

/** Aborts when the client goes away before the answer has ended, or when `stopping` does. */
export function clientSignal(reply: FastifyReply, stopping: AbortSignal): AbortSignal {
  const gone = new AbortController();
  const response = reply.raw;
  const end = (): void => gone.abort(new EngineError("canceled", "the client went away"));
  if (response.destroyed) end();
  else response.once("close", () => !response.writableFinished && end());
  return AbortSignal.any([gone.signal, stopping]);
}

/** Resolves when the response can take more; rejects when `signal` aborts. */
export function drained(response: ServerResponse, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (): void => {
      response.off("drain", settle);
      response.off("close", settle);
      signal.removeEventListener("abort", settle);
      if (signal.aborted) reject(signal.reason);
      else resolve();
    };
    response.on("drain", settle);
    response.on("close", settle);
    signal.addEventListener("abort", settle);
  });
}

async function write(response: ServerResponse, data: Uint8Array, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  if (!response.write(data)) await drained(response, signal);
}

/** Sends `bytes`; the headers go out with the first chunk, so that a failure before it keeps its status. */
export async function sendBytes(
  reply: FastifyReply,
  bytes: AsyncIterable<Uint8Array>,
  options: { readonly signal: AbortSignal; readonly headers: Headers; readonly early?: boolean },
): Promise<void> {
  const response = reply.raw;
  reply.hijack();
  const begin = (): void => {
    if (!response.headersSent) response.writeHead(200, { ...commonHeaders, ...options.headers });
  };
  try {
    if (options.early) {
      begin();
      response.flushHeaders();
    }
    for await (const chunk of bytes) {
      begin();
      await write(response, chunk, options.signal);
    }
    begin();
    response.end();
  } catch (error) {
    sendError(response, error);
  }
}

/** Messages of a build, import or load: one JSON object a line, CRLF between them. */
export class MessageStream {
  readonly #response: ServerResponse;
  #waiting: string[] = [];
  #waitingSize = 0;

  constructor(reply: FastifyReply) {
    this.#response = reply.raw;
    reply.hijack();
  }

  /** Sends one message. A client that does not read is cut off once 8 MiB wait for it. */
  readonly tell = (message: object): void => {
    if (this.#response.destroyed) return;
    if (!this.#response.headersSent)
      this.#response.writeHead(200, { ...commonHeaders, "Content-Type": "application/json" });
    const line = `${JSON.stringify(message)}\r\n`;
    if (this.#waiting.length > 0 || this.#response.writableNeedDrain) this.#hold(line);
    else this.#response.write(line);
  };

  #hold(line: string): void {
    if (this.#waiting.length === 0) this.#response.once("drain", () => this.#release());
    this.#waiting.push(line);
    this.#waitingSize += line.length;
    if (this.#waitingSize > waitingLimit) this.#response.destroy();
  }

  #release(): void {
    const lines = this.#waiting;
    this.#waiting = [];
    this.#waitingSize = 0;
    if (!this.#response.destroyed && lines.length > 0) this.#response.write(lines.join(""));
  }

  end(): void {
    this.#release();
    if (!this.#response.headersSent)
      this.#response.writeHead(200, { ...commonHeaders, "Content-Type": "application/json" });
    this.#response.end();
  }

  /** Ends with an error: the status while nothing was sent, the last message afterwards. */
  fail(error: unknown): void {
    if (!this.#response.headersSent) {
      sendError(this.#response, error);
      return;
    }
    this.failInside(error);
  }

  /** Ends with an error as the last message, also when it is the only one. */
  failInside(error: unknown): void {
    const { message } = describeError(error);
    this.tell({ errorDetail: { ...exitCodeOf(error), message }, error: message });
    this.end();
  }
}

/** The exit code of a build's command: the client ends with it. */
function exitCodeOf(error: unknown): { readonly code?: number } {
  if (typeof error !== "object" || error === null || !("exitCode" in error)) return {};
  return typeof error.exitCode === "number" ? { code: error.exitCode } : {};
}
