import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import type { Socket } from "node:net";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { EngineError } from "../../base/errors.ts";
import type { Container, Exec } from "../../container/container.ts";
import { Echo, type Given, runningContainer, startServer } from "./server.fixture.ts";

const upgrade = "Host: engine\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n";
const attachPath = "/v1.45/containers/web/attach?stream=1&stdin=1&stdout=1&stderr=1";
const attach = `POST ${attachPath} HTTP/1.1\r\n${upgrade}`;

/** Everything the server sends until it ends. */
async function readAll(connection: Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  connection.on("data", (chunk: Buffer) => chunks.push(chunk));
  await once(connection, "end");
  connection.end();
  return Buffer.concat(chunks);
}

/** Waits until `connection` has sent at least the head of an answer, and returns what came. */
async function readHead(connection: Socket): Promise<string> {
  let text = "";
  while (!text.includes("\r\n\r\n")) {
    const [chunk] = (await once(connection, "data")) as [Buffer];
    text += chunk.toString("latin1");
  }
  return text;
}

type Split = { readonly head: string; readonly stdout: Buffer; readonly stderr: Buffer };

function split(answer: Buffer): Split {
  const end = answer.indexOf("\r\n\r\n") + 4;
  const streams: Record<number, Buffer[]> = { 1: [], 2: [] };
  for (let at = end; at < answer.length; ) {
    const length = answer.readUInt32BE(at + 4);
    streams[answer[at] ?? 0]?.push(answer.subarray(at + 8, at + 8 + length));
    at += 8 + length;
  }
  const joined = (n: number): Buffer => Buffer.concat(streams[n] ?? []);
  return { head: answer.subarray(0, end).toString(), stdout: joined(1), stderr: joined(2) };
}

function echoServices(echo: Echo, container: Container = runningContainer()): Given {
  return { containers: { get: () => container, attach: async () => echo } };
}

test("attach upgrades, frames both streams, and the client's half-close ends stdin only", async () => {
  const echo = new Echo();
  await using server = await startServer(echoServices(echo));
  const connection = server.raw(`${attach}\r\n`);
  const received = readAll(connection);
  connection.end("hello");
  const { head, stdout, stderr } = split(await received);
  assert.match(head, /^HTTP\/1\.1 101 UPGRADED\r\n/);
  assert.match(head, /Content-Type: application\/vnd\.docker\.multiplexed-stream\r\n/);
  assert.match(head, /Connection: Upgrade\r\nUpgrade: tcp\r\n/);
  assert.equal(stdout.toString(), "hello");
  assert.equal(stderr.toString(), "bye");
  await sleep(20);
  assert.ok(echo.disposed);
});

test("a body split over packets is not stdin, and what follows it in one packet is", async () => {
  const echo = new Echo();
  await using server = await startServer(echoServices(echo));
  const connection = server.raw(`${attach}Content-Length: 10\r\n\r\n01234`);
  const received = readAll(connection);
  await sleep(30);
  connection.write("56789stdin");
  await sleep(30);
  connection.end("more");
  assert.equal(split(await received).stdout.toString(), "stdinmore");
});

test("headers, body and stdin in one packet are told apart", async () => {
  const echo = new Echo();
  await using server = await startServer(echoServices(echo));
  const connection = server.raw(`${attach}Content-Length: 3\r\n\r\nabcstdin`);
  const received = readAll(connection);
  connection.end();
  assert.equal(split(await received).stdout.toString(), "stdin");
});

test("a chunked body is decoded and is not stdin", async () => {
  const echo = new Echo();
  await using server = await startServer(echoServices(echo));
  const connection = server.raw(`${attach}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nstdin`);
  const received = readAll(connection);
  connection.end();
  assert.equal(split(await received).stdout.toString(), "stdin");
});

test("eight megabytes of any bytes come back whole", async () => {
  const echo = new Echo();
  await using server = await startServer(echoServices(echo));
  const data = randomBytes(8 * 1024 * 1024);
  const connection = server.raw(`${attach}\r\n`);
  const received = readAll(connection);
  connection.end(data);
  assert.ok(split(await received).stdout.equals(data));
});

test("a terminal's output is raw, and the detach keys leave without ending stdin", async () => {
  const echo = new Echo();
  const tty = runningContainer({ config: { Tty: true, OpenStdin: true } });
  await using server = await startServer(echoServices(echo, tty));
  const connection = server.raw(`${attach}\r\n`);
  const received = readAll(connection);
  connection.write("ab\x10c\x10\x11never");
  const answer = (await received).toString();
  assert.match(answer, /application\/vnd\.docker\.raw-stream\r\n/);
  assert.equal(answer.slice(answer.indexOf("\r\n\r\n") + 4), "ab\x10c");
  await sleep(20);
  assert.ok(echo.disposed);
  assert.equal(echo.stdinEnded, false);
});

test("a client that goes away ends the session, and stdin only where it was for one client", async () => {
  const echo = new Echo();
  const shared = runningContainer({ config: { OpenStdin: true, StdinOnce: false } });
  await using server = await startServer(echoServices(echo, shared));
  const connection = server.raw(`${attach}\r\nhi`);
  await readHead(connection);
  connection.destroy();
  await sleep(50);
  assert.ok(echo.disposed);
  assert.equal(echo.stdinEnded, false);
});

test("a reader that stops costs a bounded buffer and is then cut off", async () => {
  const echo = new Echo(1024 * 1024);
  await using server = await startServer(echoServices(echo));
  const connection = server.raw(`${attach}\r\n`);
  await readHead(connection);
  connection.pause();
  const piece = Buffer.alloc(64 * 1024);
  let held = 0;
  await assert.rejects(async () => {
    for (;;) {
      echo.say("stdout", piece);
      held += piece.length;
      await sleep(1);
    }
  }, /overflow/);
  assert.ok(held < 4 * 1024 * 1024, `${held} bytes were taken from the process`);
  connection.destroy();
  await sleep(50);
  assert.ok(echo.disposed);
});

test("an error before the upgrade is an ordinary answer", async () => {
  const containers = {
    get: () => {
      throw new EngineError("not_found", "No such container: web");
    },
  };
  await using server = await startServer({ containers });
  const answer = (await readAll(server.raw(`${attach}\r\n`))).toString();
  assert.match(answer, /^HTTP\/1\.1 404 Not Found\r\n/);
  assert.match(answer, /\r\n\r\n\{"message":"No such container: web"\}\n$/);
});

test("a version too new is refused on the upgraded path too", async () => {
  await using server = await startServer({});
  const answer = (await readAll(server.raw(`${attach.replace("v1.45", "v1.99")}\r\n`))).toString();
  assert.match(answer, /^HTTP\/1\.1 400 /);
  assert.match(answer, /client version 1\.99 is too new\. Maximum supported API version is 1\.48/);
});

test("Connection: Upgrade on any other route is an ordinary request", async () => {
  await using server = await startServer({});
  for (const protocol of ["tcp", "h2c", "websocket"]) {
    const headers = { Connection: "Upgrade", Upgrade: protocol };
    const { status, text } = await server.call("GET", "/_ping", { headers });
    assert.deepEqual([status, text], [200, "OK"]);
  }
});

test("without an upgrade the output comes as a plain raw answer", async () => {
  const echo = new Echo();
  await using server = await startServer(echoServices(echo, runningContainer({ config: {} })));
  const connection = server.raw(
    "POST /v1.41/containers/web/attach?stream=1&stdout=1&stderr=1 HTTP/1.1\r\nHost: engine\r\n\r\n",
  );
  const received = readAll(connection);
  await sleep(30);
  echo.say("stdout", Buffer.from("out"));
  await echo.closeStdin();
  const { head, stdout, stderr } = split(await received);
  assert.match(head, /^HTTP\/1\.1 200 OK\r\n/);
  assert.match(head, /Content-Type: application\/vnd\.docker\.raw-stream\r\n/);
  assert.doesNotMatch(head, /chunked/i);
  assert.deepEqual([stdout.toString(), stderr.toString()], ["out", "bye"]);
});

const exec: Exec = {
  id: "e1",
  containerId: "c".repeat(64),
  command: ["cat"],
  env: [],
  user: undefined,
  workingDir: undefined,
  tty: false,
  attachStdin: true,
  attachStdout: true,
  attachStderr: true,
  privileged: false,
  detachKeys: undefined,
  running: false,
  exitCode: undefined,
  pid: 0,
};

const execStart = (body: string): string =>
  `POST /v1.45/exec/e1/start HTTP/1.1\r\n${upgrade}Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`;

test("exec start reads its body, then joins the client to the process", async () => {
  const echo = new Echo();
  const asked: object[] = [];
  const startExec = async (_id: string, options: object): Promise<Echo> => {
    asked.push(options);
    return echo;
  };
  await using server = await startServer({ containers: { getExec: () => exec, startExec } });
  const connection = server.raw(`${execStart('{"Detach":false,"Tty":false}')}typed`);
  const received = readAll(connection);
  connection.end();
  assert.equal(split(await received).stdout.toString(), "typed");
  assert.deepEqual(asked, [{ attached: true, tty: false }]);
});

test("a program that cannot be run says so in the session, and bad JSON before it", async () => {
  const failed = { ...exec };
  const startExec = async (): Promise<never> => {
    Object.assign(failed, { exitCode: 127 });
    throw new EngineError("invalid_argument", "OCI runtime exec failed: no such file");
  };
  await using server = await startServer({ containers: { getExec: () => failed, startExec } });
  const bad = (await readAll(server.raw(execStart("{nope")))).toString();
  assert.match(bad, /^HTTP\/1\.1 400 Bad Request/);
  assert.match(bad, /invalid JSON/);
  const answer = split(await readAll(server.raw(execStart("{}"))));
  assert.match(answer.head, /101 UPGRADED/);
  assert.equal(answer.stdout.toString(), "OCI runtime exec failed: no such file\r\n");
});
