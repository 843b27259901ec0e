/**
 * One HTTP request to a plugin: a POST with JSON, within a deadline, the answer bounded. What went wrong on the way is a
 * {@link TransportError}; an answer of any status is an answer.
 */
import { readFile } from "node:fs/promises";
import { type ClientRequest, request as httpRequest, type IncomingMessage, type RequestOptions } from "node:http";
import { request as httpsRequest } from "node:https";
import { errorMessage } from "../base/errors.ts";
import type { PluginAddress, PluginTls } from "./address.ts";

export type Answer = { readonly status: number; readonly text: string };

export type Post = {
  /** `/VolumeDriver.Create`. */
  readonly path: string;
  readonly body: string;
  /** Ends the request: its deadline, and the caller's leave. */
  readonly signal: AbortSignal;
};

/** The request or its answer was lost. `unsent`: the plugin has certainly seen nothing of it. */
export class TransportError extends Error {
  readonly unsent: boolean;

  constructor(message: string, unsent: boolean) {
    super(message);
    this.name = "TransportError";
    this.unsent = unsent;
  }
}

/** An answer that no plugin needs: nothing of it is kept. */
export class AnswerTooLarge extends Error {}

/** Most bytes of an answer. */
export const largestAnswer = 1024 * 1024;

/** Milliseconds for a connection; the other end may be a machine that is off. */
const connectDeadline = 1500;

/** What moby says since 1.12; older plugins do not look. */
const accept = "application/vnd.docker.plugins.v1.2+json";

/** Throws TransportError, AnswerTooLarge, or the signal's reason. */
export async function post(address: PluginAddress, { path, body, signal }: Post): Promise<Answer> {
  signal.throwIfAborted();
  const bytes = Buffer.from(body);
  const options: RequestOptions = {
    method: "POST",
    path,
    headers: { ...hostOf(address), Accept: accept, "Content-Length": bytes.length },
    agent: false,
    ...(address.kind === "unix" ? { socketPath: address.path } : { host: address.host, port: address.port }),
  };
  const tls = address.kind === "tcp" ? address.tls : undefined;
  const request = tls === undefined ? httpRequest(options) : httpsRequest({ ...options, ...(await filesOf(tls)) });
  const leave = (): void => void request.destroy(new Error("it was given up"));
  signal.addEventListener("abort", leave, { once: true });
  try {
    const response = await send(request, bytes);
    return { status: response.statusCode ?? 0, text: await read(response) };
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    signal.removeEventListener("abort", leave);
    request.destroy();
  }
}

/** A socket has no name; moby says this one. */
const hostOf = ({ kind }: PluginAddress): object => (kind === "unix" ? { Host: "plugin.moby.localhost" } : {});

function send(request: ClientRequest, bytes: Buffer): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    let connected = false;
    const timer = setTimeout(() => request.destroy(new Error("no connection in time")), connectDeadline);
    request.once("socket", (socket) =>
      socket.once("connect", () => {
        connected = true;
        clearTimeout(timer);
      }),
    );
    request.once("response", resolve);
    request.once("close", () => clearTimeout(timer));
    request.on("error", (error) => reject(new TransportError(errorMessage(error), !connected)));
    request.end(bytes);
  });
}

async function read(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      size += chunk.length;
      if (size > largestAnswer) break;
      chunks.push(chunk);
    }
  } catch (error) {
    throw new TransportError(errorMessage(error), false);
  }
  if (size > largestAnswer) throw new AnswerTooLarge(`the answer is larger than ${largestAnswer} bytes`);
  return Buffer.concat(chunks).toString("utf8");
}

async function filesOf(tls: PluginTls): Promise<object> {
  const [ca, cert, key] = await Promise.all(
    [tls.ca, tls.cert, tls.key].map((path) => (path === undefined ? undefined : readFile(path))),
  );
  return { ca, cert, key, rejectUnauthorized: ca !== undefined };
}
