/**
 * What the host talks to: one JSON document a line over a virtio port, each with an `id`, each answered once, several at
 * a time. Runs programs, opens and closes the engine, and sends requests to it over its socket. Started with a socket
 * and a folder it works on this machine instead, below that folder.
 */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createReadStream, openSync, readdirSync, readFileSync, write } from "node:fs";
import { request } from "node:http";
import { connect } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { layerTar } from "../content.ts";
import { check, close, dataRoot, open, socketPath } from "./hosted-engine.ts";
import type { Answer, Order } from "./orders.ts";

function port(): number {
  const folder = "/sys/class/virtio-ports";
  const name = readdirSync(folder).find((one) => readFileSync(`${folder}/${one}/name`, "utf8").trim() === "agent");
  return openSync(`/dev/${name}`, "r+");
}

async function run(order: Extract<Order, { do: "run" }>): Promise<Answer> {
  const [program = "", ...args] = order.command;
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
  const timer = setTimeout(() => child.kill("SIGKILL"), order.deadline);
  let text = "";
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (more: string) => {
      text += more;
    });
  const [code] = await once(child, "close");
  clearTimeout(timer);
  return { status: typeof code === "number" ? code : -1, text };
}

function ask(order: Extract<Order, { do: "ask" }>): Promise<Answer> {
  const { method, path, json, tar, headers = {} } = order;
  const body = tar === undefined ? Buffer.from(json === undefined ? "" : JSON.stringify(json)) : layerTar(tar);
  const type = tar === undefined ? "application/json" : "application/x-tar";
  const about = body.length === 0 ? {} : { "Content-Type": type, "Content-Length": body.length };
  return new Promise((resolve, reject) => {
    const options = { socketPath, method, path, headers: { ...about, ...headers }, agent: false };
    const outgoing = request(options, (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("error", reject);
      response.on("end", () => resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString() }));
    });
    outgoing.on("error", reject);
    outgoing.end(body);
  });
}

function digest(folder: string): Answer {
  const root = join(dataRoot, folder);
  const files = readdirSync(root, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const lines = files.map((entry) => {
    const path = join(entry.parentPath, entry.name);
    return `${path.slice(root.length + 1)} ${createHash("sha256").update(readFileSync(path)).digest("hex")}`;
  });
  return { status: 0, text: lines.sort().join("\n") };
}

async function carryOut(order: Order): Promise<Answer> {
  switch (order.do) {
    case "run":
      return run(order);
    case "ask":
      return ask(order);
    case "open":
      return open(order.driver);
    case "close":
      return close();
    case "check":
      return check();
    case "digest":
      return digest(order.folder);
  }
}

/** Where orders come from, and where answers go. */
function line(socket: string | undefined): {
  readonly input: Readable;
  readonly send: (bytes: Buffer) => Promise<void>;
} {
  if (socket !== undefined) {
    const connection = connect(socket);
    return { input: connection, send: async (bytes) => void connection.write(bytes) };
  }
  const file = port();
  const some = (bytes: Buffer, at: number): Promise<number> =>
    new Promise((resolve, reject) =>
      write(file, bytes, at, bytes.length - at, null, (error, count) => (error ? reject(error) : resolve(count))),
    );
  const send = async (bytes: Buffer): Promise<void> => {
    for (let at = 0; at < bytes.length; ) at += await some(bytes, at);
  };
  return { input: createReadStream("", { fd: file }), send };
}

const { input, send } = line(process.argv[2]);
let sending = Promise.resolve();

function say(message: object): void {
  sending = sending.then(() => send(Buffer.from(`${JSON.stringify(message)}\n`)));
}

const words = (error: unknown): string => (error instanceof Error ? (error.stack ?? error.message) : String(error));

say({ id: 0, answer: { status: 0, text: "ready" } });
for await (const text of createInterface({ input })) {
  const { id, order } = JSON.parse(text) as { readonly id: number; readonly order: Order };
  carryOut(order).then(
    (answer) => say({ id, answer }),
    (error: unknown) => say({ id, answer: { status: -1, text: words(error) } }),
  );
}
process.exit(0);
