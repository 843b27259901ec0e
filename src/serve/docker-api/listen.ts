/**
 * Where the server listens: `unix:///path` (mode 0660, group docker where it exists) and `tcp://host:port`. A socket file
 * that nobody answers on is replaced; one that answers is refused, so that a running daemon is never cut off.
 */
import { once } from "node:events";
import { chmod, chown, lstat, mkdir, readFile, unlink } from "node:fs/promises";
import type { Server } from "node:http";
import { connect, type ListenOptions } from "node:net";
import { dirname } from "node:path";
import { EngineError, systemCode } from "../../base/errors.ts";

export type Address =
  | { readonly kind: "unix"; readonly path: string }
  | { readonly kind: "tcp"; readonly host: string; readonly port: number };

const defaultPort = 2375;
/** sun_path of sockaddr_un, without the ending zero. */
const pathLimit = 107;

/** Parses `-H`. Throws invalid_argument. */
export function parseAddress(text: string): Address {
  if (text.startsWith("unix://")) {
    const path = text.slice("unix://".length);
    if (!path.startsWith("/") || path.includes("\0"))
      throw new EngineError(
        "invalid_argument",
        `invalid host ${text}: a unix socket needs an absolute path, as in unix:///run/strata.sock`,
      );
    if (Buffer.byteLength(path) > pathLimit)
      throw new EngineError("invalid_argument", `invalid host ${text}: a socket path has at most ${pathLimit} bytes`);
    return { kind: "unix", path };
  }
  const match = /^tcp:\/\/(\[[0-9a-fA-F:.]+\]|[^:/[\]]*)(?::(\d{1,5}))?\/?$/.exec(text);
  const port = Number(match?.[2] ?? defaultPort);
  if (match === null || port > 65535)
    throw new EngineError("invalid_argument", `invalid host ${text}: give unix:///path or tcp://host:port`);
  const host = (match[1] ?? "").replace(/^\[|\]$/g, "");
  return { kind: "tcp", host: host === "" ? "127.0.0.1" : host, port };
}

export function formatAddress(address: Address): string {
  if (address.kind === "unix") return `unix://${address.path}`;
  return `tcp://${address.host.includes(":") ? `[${address.host}]` : address.host}:${address.port}`;
}

/** Starts `server` at `address`; resolves to where it really listens (a port of 0 becomes a real one). */
export async function listenAt(server: Server, address: Address): Promise<Address> {
  if (address.kind === "tcp") {
    await startListening(server, { host: address.host, port: address.port }, address);
    const bound = server.address();
    return typeof bound === "object" && bound !== null ? { ...address, port: bound.port } : address;
  }
  await mkdir(dirname(address.path), { recursive: true, mode: 0o755 });
  await clearStale(address.path);
  await startListening(server, { path: address.path }, address);
  await chmod(address.path, 0o660);
  if (process.getuid?.() === 0) await chown(address.path, 0, await dockerGroup());
  return address;
}

async function startListening(server: Server, options: ListenOptions, address: Address): Promise<void> {
  const started = once(server, "listening");
  server.listen(options);
  try {
    await started;
  } catch (error) {
    throw new EngineError(
      "unavailable",
      `cannot listen on ${formatAddress(address)}: ${systemCode(error) ?? "failed"}`,
      {
        cause: error,
      },
    );
  }
}

/** Removes a socket file that nobody listens on. Throws conflict when somebody does, or when it is no socket. */
async function clearStale(path: string): Promise<void> {
  const stat = await lstat(path).catch((error: unknown) => {
    if (systemCode(error) === "ENOENT") return undefined;
    throw error;
  });
  if (stat === undefined) return;
  if (!stat.isSocket())
    throw new EngineError(
      "conflict",
      `cannot listen on unix://${path}: the file is there and is no socket; move it away`,
    );
  if (await answers(path))
    throw new EngineError(
      "conflict",
      `cannot listen on unix://${path}: another process answers there; stop it or listen elsewhere`,
    );
  await unlink(path);
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect({ path });
    probe.once("connect", () => {
      probe.destroy();
      resolve(true);
    });
    probe.once("error", (error) => resolve(systemCode(error) !== "ECONNREFUSED" && systemCode(error) !== "ENOENT"));
  });
}

/** The id of the group `docker`, or 0. */
async function dockerGroup(): Promise<number> {
  const text = await readFile("/etc/group", "utf8").catch(() => "");
  return Number(/^docker:[^:]*:(\d+):/m.exec(text)?.[1] ?? 0);
}
