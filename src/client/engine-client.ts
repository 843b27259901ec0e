/**
 * A small typed client of the engine over its unix socket. Answers are decoded by the caller's schema-like function;
 * refusals come back as the engine's own errors, by the one status table read backwards.
 */
import type { ClientRequest, IncomingMessage } from "node:http";
import { EngineError, type ErrorCode, httpStatus, systemCode } from "../base/errors.ts";
import { request } from "../base/node-http.ts";

export const defaultSocket = "/run/strata/strata.sock";

const codes = new Map<number, ErrorCode>(
  Object.entries(httpStatus).map(([code, status]) => [status, code as ErrorCode]),
);
codes.set(500, "internal");

export type EngineClient = {
  /** `patient`: waits as long as the engine works. */
  readonly get: (path: string, options?: { readonly patient?: boolean }) => Promise<unknown>;
  /** Waits as long as the engine works; `body` is sent as JSON. */
  readonly post: (path: string, body?: unknown) => Promise<unknown>;
  readonly delete: (path: string) => Promise<unknown>;
  /** `body` may be bytes as they come, `length` of them if that is known. A POST whose answer is messages, one JSON document a line; a message that tells of an error is thrown. */
  readonly messages: (path: string, body?: unknown, length?: number) => AsyncIterable<unknown>;
  /** A GET whose answer is bytes; `told` gets what the engine says of its work before the first of them. */
  readonly bytes: (path: string, told?: (message: unknown) => void) => AsyncIterable<Uint8Array>;
};

/** Where the docker CLI goes, when that is a socket: one variable is enough for both. */
function defaultHost({ DOCKER_HOST: host }: NodeJS.ProcessEnv = process.env): string {
  return host?.startsWith("unix:///") === true ? host : `unix://${defaultSocket}`;
}

/** `host` is `unix:///path`. Throws invalid_argument for anything else. */
export function openClient(host: string = defaultHost()): EngineClient {
  if (!host.startsWith("unix:///"))
    throw new EngineError("invalid_argument", `invalid host ${host}: strata reaches an engine over unix:///path`);
  const socketPath = host.slice("unix://".length);
  return {
    get: (path, options) => ask({ socketPath, path, method: "GET", timeout: options?.patient === true ? 0 : 30_000 }),
    post: (path, body) => ask({ socketPath, path, method: "POST", timeout: 0, body }),
    delete: (path) => ask({ socketPath, path, method: "DELETE", timeout: 0 }),
    messages: (path, body, length) => messagesOf({ socketPath, path, method: "POST", timeout: 0, body, length }),
    bytes: (path, told) => bytesOf({ socketPath, path, method: "GET", timeout: 0, told }),
  };
}

type Question = {
  readonly socketPath: string;
  readonly path: string;
  readonly method: "GET" | "POST" | "DELETE";
  readonly timeout: number;
  /** Bytes as they come, or what is sent as JSON. */
  readonly body?: unknown;
  readonly length?: number | undefined;
  readonly told?: ((message: unknown) => void) | undefined;
};

async function ask(question: Question): Promise<unknown> {
  const response = await send(question);
  return answerOf(response.statusCode ?? 500, await textOf(response));
}

async function* messagesOf(question: Question): AsyncGenerator<unknown, void> {
  let rest = "";
  for await (const chunk of bytesOf(question, "utf8")) {
    const lines = (rest + String(chunk)).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) if (line.trim() !== "") yield messageOf(line);
  }
  if (rest.trim() !== "") yield messageOf(rest);
}

function messageOf(line: string): unknown {
  const message: unknown = JSON.parse(line);
  if (typeof message === "object" && message !== null && "error" in message)
    throw new EngineError("internal", String(message.error));
  return message;
}

/** What is left early is broken off. */
async function* bytesOf(question: Question, encoding?: BufferEncoding): AsyncGenerator<Uint8Array, void> {
  const response = await send(question);
  try {
    if ((response.statusCode ?? 500) >= 400) answerOf(response.statusCode ?? 500, await textOf(response));
    if (encoding !== undefined) response.setEncoding(encoding);
    yield* response;
  } finally {
    response.destroy();
  }
}

async function textOf(response: IncomingMessage): Promise<string> {
  let text = "";
  response.setEncoding("utf8");
  for await (const part of response) text += String(part);
  return text;
}

/** Resolves with the beginning of the answer. */
function send(question: Question): Promise<IncomingMessage> {
  const { body, length, told, ...where } = question;
  return new Promise((resolve, reject) => {
    const type = isStream(body) ? "application/x-tar" : "application/json";
    const headers = {
      ...(body === undefined ? {} : { "Content-Type": type }),
      ...(length === undefined ? {} : { "Content-Length": length }),
    };
    const call = request({ ...where, headers }, resolve);
    call.on("information", ({ headers: { "strata-progress": message } }) => {
      try {
        if (typeof message === "string") told?.(JSON.parse(message));
      } catch (error) {
        call.destroy(asError(error));
      }
    });
    call.on("timeout", () => call.destroy(new EngineError("deadline_exceeded", "the engine does not answer")));
    call.on("error", (error) => reject(unreachable(error, question.socketPath)));
    if (isStream(body)) void sendBody(call, body).catch((error: unknown) => call.destroy(asError(error)));
    else call.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

async function sendBody(call: ClientRequest, body: AsyncIterable<Uint8Array>): Promise<void> {
  const closed = new Promise<void>((resolve) => call.once("close", resolve));
  for await (const chunk of body) {
    if (call.destroyed) return;
    if (!call.write(chunk)) await Promise.race([new Promise<void>((resolve) => call.once("drain", resolve)), closed]);
  }
  call.end();
}

const asError = (error: unknown): Error => (error instanceof Error ? error : new Error(String(error)));

const isStream = (body: unknown): body is AsyncIterable<Uint8Array> =>
  typeof body === "object" && body !== null && Symbol.asyncIterator in body;

function answerOf(status: number, text: string): unknown {
  const value: unknown = text === "" ? undefined : JSON.parse(text);
  if (status < 400) return value;
  const told =
    typeof value === "object" && value !== null && "message" in value ? String(value.message) : `status ${status}`;
  if (told === unknownPage) throw new EngineError("unsupported", strangeEngine);
  throw new EngineError(codes.get(status) ?? "internal", told);
}

/** What every Docker engine answers to a path that it does not know. */
const unknownPage = "page not found";
const strangeEngine =
  "the engine that answers does not know this: it is no strata daemon, or an older one; name another with --host";

function unreachable(error: Error, socketPath: string): Error {
  const code = systemCode(error);
  if (code !== "ENOENT" && code !== "ECONNREFUSED") return error;
  const sentence = `no engine answers on unix://${socketPath}: start one with "strata daemon", or name another with --host`;
  return new EngineError("unavailable", sentence, { cause: error });
}
