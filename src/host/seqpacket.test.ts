import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readdirSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { isError, systemCode } from "../base/errors.ts";
import { connectSeqpacket, type SeqpacketConnection } from "./seqpacket.ts";

/** The other side is another program in another language: the first message of a caller says what it shall do. */
const server = `
import socket, sys, threading, time
def serve(s):
    try: answer(s)
    except (BrokenPipeError, ConnectionResetError): pass
    s.close()
def answer(s):
    words = s.recv(65536).decode().split()
    if words[0] == "echo":
        while True:
            m = s.recv(65536)
            if not m: break
            s.send(b"\\x02" + m)
        s.send(b"\\x03end")
    elif words[0] == "send":
        for i in range(int(words[1])):
            s.send(b"\\x02" + (str(i).encode() + b" ").ljust(int(words[2]), b"x"))
    elif words[0] == "lengths":
        time.sleep(float(words[1]))
        lengths = []; total = b""
        while True:
            m = s.recv(65536)
            if not m: break
            lengths.append(len(m)); total += m
        s.send(("%d %d %d" % (max(lengths), sum(lengths), sum(total[i] for i in range(0, len(total), 8191)))).encode())
    elif words[0] == "stall":
        time.sleep(30)
l = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
import os
os.chdir(sys.argv[1])
l.bind(sys.argv[2]); l.listen(8); print("ready", flush=True)
while True:
    s, _ = l.accept()
    threading.Thread(target=serve, args=(s,), daemon=True).start()
`;
const skip = spawnSync("python3", ["--version"]).status === 0 ? false : "needs python3";

let directory = "";
let path = "";
const servers: ChildProcess[] = [];

async function serve(folder: string, name: string): Promise<string> {
  const child = spawn("python3", ["-c", server, folder, name], { stdio: ["ignore", "pipe", "inherit"] });
  servers.push(child);
  await once(child.stdout, "data");
  return join(folder, name);
}

before(async () => {
  directory = mkdtempSync(join(tmpdir(), "strata-seqpacket-"));
  if (skip === false) path = await serve(directory, "attach");
});
after(() => {
  for (const child of servers) child.kill("SIGKILL");
  rmSync(directory, { recursive: true });
});

async function call(command: string, options: { readonly maxQueued?: number } = {}): Promise<SeqpacketConnection> {
  const connection = await connectSeqpacket(path, options);
  await connection.write(Buffer.from(command));
  return connection;
}

async function nextText(connection: SeqpacketConnection): Promise<string> {
  const { done, value } = await connection.messages.next();
  return done === true ? "end" : Buffer.from(value).toString("latin1");
}

const sockets = (): number =>
  readdirSync("/proc/self/fd").filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith("socket:");
    } catch {
      return false;
    }
  }).length;

test("messages go there and come back, each by itself, and the end is seen", { skip }, async () => {
  await using connection = await call("echo");
  for (const text of ["a", "bc", "x".repeat(8192)]) {
    await connection.write(Buffer.from(text));
    assert.equal(await nextText(connection), `\x02${text}`);
  }
  await connection.shutdownWrite();
  await connection.shutdownWrite();
  assert.equal(await nextText(connection), "\x03end");
  assert.equal(await nextText(connection), "end");
  assert.equal(await nextText(connection), "end");
});

test("messages that came before the end are all there, in order", { skip }, async () => {
  await using connection = await call("send 100 8193");
  await sleep(100);
  let index = 0;
  for await (const message of connection.messages) {
    assert.equal(message.length, 8194);
    assert.equal(Buffer.from(message.subarray(1)).toString("latin1").split(" ")[0], `${index++}`);
  }
  assert.equal(index, 100);
});

test("what is written is cut into messages that conmon can take, and waits for a slow reader", { skip }, async () => {
  await using connection = await call("lengths 0.3");
  const data = Buffer.alloc(5_000_003, 1);
  let written = false;
  const writing = connection.write(data).then(() => {
    written = true;
  });
  await sleep(100);
  assert.equal(written, false);
  await writing;
  await connection.shutdownWrite();
  assert.equal(await nextText(connection), `8192 5000003 ${Math.ceil(5_000_003 / 8191)}`);
});

test("a reader that stops is cut off with a clear error", { skip }, async () => {
  await using connection = await call("send 1000 8192", { maxQueued: 100_000 });
  await sleep(200);
  await assert.rejects(
    connection.messages.next(),
    (error) => isError(error, "unavailable") && /too slow/.test(error.message),
  );
  assert.equal(await nextText(connection), "end");
  await assert.rejects(connection.write(Buffer.from("x")), (error) => isError(error, "unavailable"));
});

test("a reader that reads gets far more than may wait", { skip }, async () => {
  await using connection = await call("send 20000 8192");
  let bytes = 0;
  for await (const message of connection.messages) bytes += message.length;
  assert.equal(bytes, 20000 * 8193);
});

test("writing to an end that left is unavailable, as is a socket that nobody serves", { skip }, async () => {
  await using connection = await call("close");
  assert.equal(await nextText(connection), "end");
  await assert.rejects(connection.write(Buffer.from("x")), (error) => isError(error, "unavailable"));
  const absent = connectSeqpacket(join(directory, "absent"));
  await assert.rejects(absent, (error) => isError(error, "unavailable") && systemCode(error.cause) === "ENOENT");
});

test("close ends a waiting reader and a waiting writer, and gives the socket back", { skip }, async () => {
  const before = sockets();
  const connection = await call("stall");
  const reading = connection.messages.next();
  const writing = connection.write(Buffer.alloc(10_000_000));
  const refused = assert.rejects(writing, (error) => isError(error, "unavailable"));
  await sleep(50);
  await connection.close();
  await connection.close();
  assert.equal((await reading).done, true);
  await refused;
  assert.equal(sockets(), before);
});

test("a path longer than a socket address is reached", { skip }, async () => {
  const folder = join(directory, "d".repeat(120), "e".repeat(120));
  mkdirSync(folder, { recursive: true });
  const long = await serve(folder, "n".repeat(60));
  await using connection = await connectSeqpacket(long);
  await connection.write(Buffer.from("echo"));
  await connection.write(Buffer.from("hello"));
  assert.equal(await nextText(connection), "\x02hello");
});

test("many connections are served at once by one thread", { skip }, async () => {
  const connections = await Promise.all(Array.from({ length: 40 }, () => call("echo")));
  const texts = await Promise.all(
    connections.map(async (connection, index) => {
      await connection.write(Buffer.from(`${index}`));
      return nextText(connection);
    }),
  );
  assert.deepEqual(
    texts,
    connections.map((_, index) => `\x02${index}`),
  );
  await Promise.all(connections.map((connection) => connection.close()));
});

test("a process with open connections and a sleeping thread ends when it is told to", { skip }, async () => {
  const script = `
    const { connectSeqpacket } = await import(${JSON.stringify(new URL("./seqpacket.ts", import.meta.url).href)});
    const connection = await connectSeqpacket(${JSON.stringify(path)});
    await connection.write(Buffer.from("echo"));
    await connection.write(Buffer.from("x"));
    await connection.messages.next();
    if (process.argv[1] === "close") await connection.close(); else process.exit(5);`;
  for (const [how, code] of [
    ["exit", 5],
    ["close", 0],
  ] as const) {
    const before = performance.now();
    const child = spawn(process.execPath, ["--input-type=module", "-e", script, how], { stdio: "inherit" });
    assert.deepEqual(await once(child, "exit"), [code, null]);
    assert.ok(performance.now() - before < 5000);
  }
});
