/** The Engine API as any program could speak it: one request over the socket, without the docker CLI's own checks. */
import { request } from "node:http";
import { connect, type Socket } from "node:net";
import type { Daemon } from "./engine.ts";

export type Answer = {
  readonly status: number;
  readonly text: string;
  /** What an error says; "" where the answer is none. */
  readonly message: string;
};

export type Call = {
  readonly method: string;
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** Sent as it is. */
  readonly body?: string | Uint8Array | undefined;
  /** Sent as JSON. */
  readonly json?: unknown;
  /** Milliseconds without a byte of an answer; twenty seconds unless given. */
  readonly deadline?: number | undefined;
};

export const socketOf = (daemon: Daemon): string => daemon.host.slice("unix://".length);

function messageOf(text: string): string {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && "message" in value ? String(value.message) : "";
  } catch {
    return "";
  }
}

/** One request; an answer that takes longer than its deadline is an error. */
export function call(daemon: Daemon, { method, path, headers, body, json, deadline = 20_000 }: Call): Promise<Answer> {
  const text = json === undefined ? body : JSON.stringify(json);
  const type = json === undefined ? {} : { "Content-Type": "application/json" };
  return new Promise((resolve, reject) => {
    const options = { socketPath: socketOf(daemon), method, path, headers: { ...type, ...headers }, agent: false };
    const outgoing = request(options, (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("error", reject);
      response.on("end", () => {
        const whole = Buffer.concat(chunks).toString();
        resolve({ status: response.statusCode ?? 0, text: whole, message: messageOf(whole) });
      });
    });
    outgoing.setTimeout(deadline, () => outgoing.destroy(new Error(`no answer to ${method} ${path}`)));
    outgoing.on("error", reject);
    outgoing.end(text);
  });
}

/** A connection that has sent `text` as it is; its end is the caller's. */
export function rawConnection(daemon: Daemon, ...sent: readonly (string | Uint8Array)[]): Socket {
  const connection = connect({ path: socketOf(daemon) });
  connection.on("error", () => undefined);
  for (const part of sent) connection.write(part);
  return connection;
}

/** What came back on a connection that sent `text`, once the daemon has closed it; five seconds at most. */
export async function answerTo(daemon: Daemon, text: string | Uint8Array): Promise<string> {
  const connection = rawConnection(daemon, text);
  let answer = "";
  connection.on("data", (data: Buffer) => {
    answer += data.toString("latin1");
  });
  connection.setTimeout(5000, () => connection.destroy());
  await new Promise((resolve) => connection.once("close", resolve));
  return answer;
}
