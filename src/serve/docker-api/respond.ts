/**
 * Answers as dockerd writes them: the common headers, JSON bodies with a newline at the end, and errors as
 * `{"message": ...}` with the status of the engine's one table. Never a stack.
 */
import type { ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import type { FastifyReply } from "fastify";
import { EngineError, errorCode, errorMessage, httpStatus } from "../../base/errors.ts";
import { STATUS_CODES } from "../../base/node-http.ts";
import { engineVersion } from "../../base/version.ts";
import { apiVersion } from "./api-version.ts";

/** Headers of every answer. */
export const commonHeaders = {
  "Api-Version": apiVersion,
  "Docker-Experimental": "false",
  Ostype: "linux",
  Server: `Strata/${engineVersion} (linux)`,
} as const;

/** Ends the answer with `value` as JSON. */
export function sendJson(reply: FastifyReply, status: number, value: unknown): void {
  reply.hijack();
  writeJson(reply.raw, status, value);
}

function writeJson(response: ServerResponse, status: number, value: unknown): void {
  const body = `${JSON.stringify(value)}\n`;
  response.writeHead(status, {
    ...commonHeaders,
    "Content-Type": "application/json",
    "Content-Length": Buffer.byteLength(body),
  });
  response.end(body);
}

/** Ends the answer without a body. */
export function sendEmpty(reply: FastifyReply, status: number): void {
  reply.hijack();
  const length = status === 204 || status === 304 ? {} : { "Content-Length": 0 };
  reply.raw.writeHead(status, { ...commonHeaders, ...length });
  reply.raw.end();
}

/** Ends the answer with plain text. */
export function sendText(reply: FastifyReply, text: string, headers: Readonly<Record<string, string>>): void {
  reply.hijack();
  reply.raw.writeHead(200, {
    ...commonHeaders,
    ...headers,
    "Content-Type": "text/plain; charset=utf-8",
    "Content-Length": Buffer.byteLength(text),
  });
  reply.raw.end(text);
}

/** Status and message that a client may see of any thrown value. */
export function describeError(error: unknown): { readonly status: number; readonly message: string } {
  return { status: httpStatus[errorCode(error)], message: errorMessage(error) };
}

/** Ends an answer that has not begun with an error; one that has begun is cut off, so that no client takes it for whole. */
export function sendError(response: ServerResponse, error: unknown): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  const { status, message } = describeError(error);
  if (status === httpStatus.not_modified) {
    response.writeHead(status, commonHeaders);
    response.end();
    return;
  }
  writeJson(response, status, { message });
}

/** Ends an upgraded connection that was not taken over with an ordinary answer. */
export function answerSocket(socket: Duplex, status: number, value: unknown): void {
  const body = value === undefined ? "" : `${JSON.stringify(value)}\n`;
  const headers = Object.entries({
    ...commonHeaders,
    ...(value === undefined ? {} : { "Content-Type": "application/json" }),
    "Content-Length": Buffer.byteLength(body),
    Connection: "close",
  });
  const lines = headers.map(([name, text]) => `${name}: ${text}`);
  socket.end(`HTTP/1.1 ${status} ${STATUS_CODES[status] ?? "Unknown"}\r\n${lines.join("\r\n")}\r\n\r\n${body}`);
}

/** What Strata does not do (yet), said in one sentence. */
export function refuse(sentence: string): never {
  throw new EngineError("unsupported", sentence);
}
