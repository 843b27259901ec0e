/**
 * JSON bodies: read whole up to 8 MiB, decoded by a schema, refused with dockerd's status and words when they are not
 * JSON, of another content type, followed by more, or of another shape. Other bodies stay streams.
 */
import type { IncomingMessage } from "node:http";
import { EngineError } from "../../base/errors.ts";
import { decodeShape, type Shape } from "../../base/shape.ts";

const limit = 8 * 1024 * 1024;
const mediaType = /^\s*([\w!#$&^.+-]+\/[\w!#$&^.+-]+)\s*(;.*)?$/;

function invalid(message: string, cause?: unknown): EngineError {
  return new EngineError("invalid_argument", message, { cause });
}

function checkContentType(request: IncomingMessage): void {
  const type = request.headers["content-type"] ?? "";
  const match = mediaType.exec(type);
  if (match?.[1] === undefined)
    throw invalid(
      `malformed Content-Type header (${type}): mime: ${type === "" ? "no media type" : "invalid media type"}`,
    );
  if (match[1].toLowerCase() !== "application/json")
    throw invalid(`unsupported Content-Type header (${type}): must be 'application/json'`);
}

async function readText(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request) {
    const data = chunk as Buffer;
    size += data.length;
    if (size > limit) throw invalid("request body is larger than 8 MiB");
    chunks.push(data);
  }
  return Buffer.concat(chunks).toString("utf8");
}

/** The end of the first JSON value in `text`, found without parsing it: strings skipped, brackets counted. */
function endOfValue(text: string): number {
  const start = text.search(/\S/);
  let depth = 0;
  let quoted = false;
  for (let i = start; i < text.length; i++) {
    const character = text[i];
    if (quoted) {
      if (character === "\\") i++;
      else if (character === '"') quoted = false;
    } else if (character === '"') quoted = true;
    else if (character === "{" || character === "[") depth++;
    else if (character === "}" || character === "]") depth--;
    if (!quoted && depth === 0) return i + 1;
  }
  return -1;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    const end = endOfValue(text);
    if (end === -1) throw invalid("invalid JSON: unexpected EOF", error);
    if (text.slice(end).trim() !== "" && isJson(text.slice(0, end)))
      throw invalid("unexpected content after JSON", error);
    throw invalid(`invalid JSON: ${error instanceof Error ? error.message : "not JSON"}`, error);
  }
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/** Decodes `value` with `schema`; the first thing wrong is named by its path. */
export function decode<T>(schema: Shape<T>, value: unknown): T {
  const decoded = decodeShape(schema, value);
  if (decoded.ok) return decoded.value;
  const { path, problem } = decoded;
  throw invalid(`invalid JSON: ${path === "" ? "" : `${path}: `}${problem}`);
}

function hasBody(request: IncomingMessage): boolean {
  if (request.headers["transfer-encoding"] !== undefined) return true;
  return Number(request.headers["content-length"] ?? 0) > 0;
}

/** The request's JSON body; undefined when there is none. */
export async function readOptionalJson<T>(request: IncomingMessage, schema: Shape<T>): Promise<T | undefined> {
  if (request.headers["content-type"] === undefined && !hasBody(request)) return undefined;
  checkContentType(request);
  if (!hasBody(request)) return undefined;
  const text = await readText(request);
  if (text.trim() === "") throw invalid("invalid JSON: got EOF while reading request body");
  const value = parseJson(text);
  return value === null ? undefined : decode(schema, value);
}

/** What a client sends, for whoever may stop before its end: then the rest is still read, and dropped (server.ts). */
export function bodyOf(request: IncomingMessage): AsyncIterable<Uint8Array> {
  return { [Symbol.asyncIterator]: () => request.iterator({ destroyOnReturn: false }) as AsyncIterator<Uint8Array> };
}

/** The request's JSON body; an empty one is refused. */
export async function readJson<T>(request: IncomingMessage, schema: Shape<T>): Promise<T> {
  const value = await readOptionalJson(request, schema);
  if (value === undefined) throw invalid("invalid JSON: got EOF while reading request body");
  return value;
}
