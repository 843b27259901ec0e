/**
 * Upgraded connections: a POST to attach or exec start with `Connection: Upgrade` leaves HTTP and becomes a session.
 * The body is read first, and only it; what follows on the connection is stdin, even when both came in one packet.
 * Every other request that offers an upgrade (h2c, websockets) is an ordinary request.
 */
import type { IncomingMessage, Server } from "node:http";
import type { Duplex } from "node:stream";
import { EngineError } from "../../base/errors.ts";
import { checkVersion, isOlder, stripVersion, versionOf } from "./api-version.ts";
import { type Opened, openAttach, openExec, type SessionServices } from "./open-session.ts";
import { Query } from "./query.ts";
import { answerSocket, describeError } from "./respond.ts";
import { runSession, type Session } from "./session.ts";
import { streamType } from "./stdcopy.ts";

const sessionPath = /^(?:\/v[0-9.]+)?\/(?:containers\/[^/]+\/attach|exec\/[^/]+\/start)(?:\?|$)/;
const attachPath = /^\/containers\/([^/]+)\/attach$/;
const execPath = /^\/exec\/([^/]+)\/start$/;

/** Milliseconds for a request's body to arrive once its headers have. */
const bodyDeadline = 30_000;
const bodyLimit = 1024 * 1024;

/** For the `shouldUpgradeCallback` of the HTTP server. */
export function becomesSession(request: IncomingMessage): boolean {
  return request.method === "POST" && sessionPath.test(request.url ?? "");
}

/** Takes over the connections that {@link becomesSession} lets through; tells `onSession` of each, for the server's end. */
export function serveSessions(
  server: Server,
  containers: SessionServices,
  onSession: (connection: Duplex) => void,
): void {
  server.on("upgrade", (request: IncomingMessage, connection: Duplex, head: Buffer) => {
    connection.on("error", () => connection.destroy());
    onSession(connection);
    if (head.length > 0) connection.unshift(head);
    takeOver(request, connection, containers).catch((error: unknown) => {
      const { status, message } = describeError(error);
      if (connection.writable) answerSocket(connection, status, { message });
    });
  });
}

async function takeOver(request: IncomingMessage, connection: Duplex, containers: SessionServices): Promise<void> {
  if (Number(request.headers["content-length"] ?? 0) > bodyLimit)
    throw new EngineError("invalid_argument", "request body is larger than 1 MiB");
  const timer = setTimeout(() => connection.destroy(), bodyDeadline);
  let opened: Opened;
  try {
    opened = await open(request, containers);
    await drain(request);
  } finally {
    clearTimeout(timer);
  }
  if (opened === "detached") return answerSocket(connection, 200, undefined);
  connection.write(switchingHead(opened, versionOf(request)));
  await runSession(connection, opened);
}

function open(request: IncomingMessage, containers: SessionServices): Promise<Opened> {
  const url = new URL(stripVersion(request), "http://engine");
  checkVersion(versionOf(request));
  const container = attachPath.exec(url.pathname)?.[1];
  if (container !== undefined) return openAttach(containers, decodeURIComponent(container), new Query(valuesOf(url)));
  const exec = execPath.exec(url.pathname)?.[1];
  if (exec === undefined) throw new EngineError("not_found", "page not found");
  return openExec(containers, decodeURIComponent(exec), request);
}

/** Reads what is left of a request's body, so that it is never taken for stdin. */
async function drain(request: IncomingMessage): Promise<void> {
  if (request.readableEnded || request.complete) return;
  let size = 0;
  for await (const chunk of request) {
    size += (chunk as Buffer).length;
    if (size > bodyLimit) throw new EngineError("invalid_argument", "request body is larger than 1 MiB");
  }
}

function valuesOf(url: URL): Record<string, string[]> {
  return Object.fromEntries([...url.searchParams.keys()].map((key) => [key, url.searchParams.getAll(key)]));
}

function switchingHead(session: Session, version: string): string {
  const type = streamType(session.tty, !isOlder(version, "1.42"));
  return `HTTP/1.1 101 UPGRADED\r\nContent-Type: ${type}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n`;
}
