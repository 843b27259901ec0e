import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import {
  addBusybox,
  assertClean,
  createShell,
  type Engine,
  logOf,
  makeFolder,
  openEngine,
  runShell,
} from "../../test/support/scratch-engine.ts";
import type { Attachment } from "../runtime/runtime.ts";
import type { NewExec } from "./container.ts";

let folder: Awaited<ReturnType<typeof makeFolder>>;
let engine: Engine;

before(async () => {
  folder = await makeFolder();
  engine = await openEngine(folder.path);
  await addBusybox(engine);
});

after(async () => {
  try {
    await assertClean(engine);
  } finally {
    await engine[Symbol.asyncDispose]();
    await folder[Symbol.asyncDispose]();
  }
});

const pause = (milliseconds: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, milliseconds));
const everything = { stdin: true, stdout: true, stderr: true };

/** Reads to the end. */
async function textOf(attachment: Attachment): Promise<{ stdout: string; stderr: string }> {
  const texts = { stdout: "", stderr: "" };
  for await (const { stream, data } of attachment.output) texts[stream] += Buffer.from(data).toString();
  return texts;
}

test("a client that attaches before the start misses nothing, and its stdin reaches the process", async () => {
  const { containers } = engine;
  const id = await createShell(engine, "echo first; cat; echo last >&2", {
    config: { OpenStdin: true, StdinOnce: true, AttachStdin: true },
  });
  const client = await containers.attach(id, everything);
  const text = textOf(client);
  const written = client.write(Buffer.from("from stdin\n")).then(() => client.closeStdin());
  const exit = containers.wait(id, "next-exit");
  await containers.start(id);
  await written;
  assert.deepEqual(await text, { stdout: "first\nfrom stdin\n", stderr: "last\n" });
  assert.deepEqual(await exit, { exitCode: 0 });
  await client[Symbol.asyncDispose]();
});

test("several clients get all of it, each only the streams it asked for", async () => {
  const { containers } = engine;
  const id = await createShell(engine, "for i in 1 2 3 4 5 6 7 8; do echo out $i; echo err $i >&2; done");
  const clients = [
    await containers.attach(id, everything),
    await containers.attach(id, { stdin: false, stdout: true, stderr: false }),
    await containers.attach(id, { stdin: false, stdout: false, stderr: true }),
  ];
  const texts = Promise.all(clients.map(textOf));
  await containers.start(id);
  const lines = (word: string): string => [1, 2, 3, 4, 5, 6, 7, 8].map((index) => `${word} ${index}\n`).join("");
  assert.deepEqual(await texts, [
    { stdout: lines("out"), stderr: lines("err") },
    { stdout: lines("out"), stderr: "" },
    { stdout: "", stderr: lines("err") },
  ]);
});

test("a client of a container that cannot start, or is removed, sees an end", async () => {
  const { containers } = engine;
  const { id } = await containers.create({
    name: undefined,
    config: { Image: "busybox", Cmd: ["/no/such"] },
    hostConfig: {},
    networks: {},
  });
  const one = await containers.attach(id, everything);
  await assert.rejects(containers.start(id));
  assert.deepEqual(await textOf(one), { stdout: "", stderr: "" });
  const two = await containers.attach(id, everything);
  await containers.remove(id, { force: false, volumes: false });
  assert.deepEqual(await textOf(two), { stdout: "", stderr: "" });
});

test("a client that leaves before the start keeps nothing waiting", async () => {
  const { containers } = engine;
  const id = await createShell(engine, "echo x");
  const client = await containers.attach(id, everything);
  await client[Symbol.asyncDispose]();
  assert.deepEqual(await textOf(client), { stdout: "", stderr: "" });
  const exit = containers.wait(id, "next-exit");
  await containers.start(id);
  assert.equal((await exit).exitCode, 0);
});

test("attaching to what runs is live", async () => {
  const { containers } = engine;
  const id = await createShell(engine, "while read line; do echo got $line; done", { config: { OpenStdin: true } });
  await containers.start(id);
  const client = await containers.attach(id, everything);
  await client.write(Buffer.from("one\n"));
  let text = "";
  for await (const { data } of client.output) {
    text += Buffer.from(data).toString();
    if (text.endsWith("\n")) break;
  }
  assert.equal(text, "got one\n");
  await client[Symbol.asyncDispose]();
  assert.equal(containers.get(id).state.status, "running");
});

test("a terminal has the size that was asked for, and can be resized", async () => {
  const { containers } = engine;
  const id = await createShell(engine, "test -t 0 && echo terminal; while :; do sleep 0.1; done", {
    config: { Tty: true, OpenStdin: true },
    hostConfig: { ConsoleSize: [30, 90] },
  });
  const client = await containers.attach(id, everything);
  await containers.start(id);
  let text = "";
  for await (const { data } of client.output) {
    text += Buffer.from(data).toString();
    if (text.includes("\n")) break;
  }
  assert.equal(text, "terminal\r\n");
  await containers.resize(id, { height: 11, width: 22 });
  await client[Symbol.asyncDispose]();
});

const execOf = (command: readonly string[], more: Partial<NewExec> = {}): NewExec => ({
  command,
  env: [],
  user: undefined,
  workingDir: undefined,
  tty: false,
  attachStdin: false,
  attachStdout: true,
  attachStderr: true,
  privileged: false,
  detachKeys: undefined,
  ...more,
});

async function runExec(
  id: string,
  request: NewExec,
  stdin?: string,
): Promise<{ stdout: string; stderr: string; code: number | undefined }> {
  const { containers } = engine;
  const exec = await containers.createExec(id, request);
  const client = await containers.startExec(exec, { attached: true, tty: request.tty });
  assert.ok(client !== undefined);
  const text = textOf(client);
  if (stdin !== undefined) {
    await client.write(Buffer.from(stdin));
    await client.closeStdin();
  }
  const { stdout, stderr } = await text;
  while (containers.getExec(exec).running) await pause(10);
  return { stdout, stderr, code: containers.getExec(exec).exitCode };
}

test("exec: output, exit code, stdin, user, environment, directory", async () => {
  const id = await createShell(engine, "sleep 100", { config: { Env: ["A=container"] } });
  await engine.containers.start(id);
  assert.deepEqual(await runExec(id, execOf(["sh", "-c", "echo out; echo err >&2; exit 3"])), {
    stdout: "out\n",
    stderr: "err\n",
    code: 3,
  });
  assert.equal((await runExec(id, execOf(["cat"], { attachStdin: true }), "through\n")).stdout, "through\n");
  const asked = { user: "user", env: ["B=exec"], workingDir: "/data" };
  assert.equal(
    (await runExec(id, execOf(["sh", "-c", "id -u; echo $A $B; pwd"], asked))).stdout,
    "1000\ncontainer exec\n/data\n",
  );
});

test("exec: what cannot run has Docker's codes, and a session starts once", async () => {
  const { containers } = engine;
  const id = await createShell(engine, "sleep 100");
  await assert.rejects(containers.createExec(id, execOf(["true"])), {
    code: "conflict",
    message: `container ${id} is not running`,
  });
  await containers.start(id);
  const exec = await containers.createExec(id, execOf(["/no/such"]));
  await assert.rejects(containers.startExec(exec, { attached: true, tty: false }), { code: "invalid_argument" });
  assert.equal(containers.getExec(exec).exitCode, 127);
  await assert.rejects(containers.startExec(exec, { attached: true, tty: false }), { code: "conflict" });
  assert.throws(() => containers.getExec("nope"), { code: "not_found", message: "No such exec instance: nope" });
  await containers.pause(id);
  await assert.rejects(containers.createExec(id, execOf(["true"])), { code: "conflict" });
  await containers.unpause(id);
});

test("top and stats speak of the processes", async () => {
  const { containers } = engine;
  const id = await createShell(engine, "sleep 100");
  await containers.start(id);
  const { titles, processes } = await containers.top(id, []);
  assert.ok(titles.includes("PID") && processes.length >= 1);
  const stats = await containers.stats(id);
  assert.ok(stats.pids >= 1 && stats.memoryUsage > 0);
});

test("logs: tail, time stamps, one stream, and following to the end", async () => {
  const { containers } = engine;
  const options = {
    follow: false,
    stdout: true,
    stderr: true,
    tail: undefined,
    since: undefined,
    until: undefined,
    timestamps: false,
  };
  const collect = async (id: string, more: object): Promise<string> => {
    let text = "";
    for await (const { data } of containers.logs(id, { ...options, ...more })) text += Buffer.from(data).toString();
    return text;
  };
  const { id } = await runShell(engine, "for i in 1 2 3 4 5; do echo $i; done; echo err >&2");
  assert.equal(await collect(id, { tail: 2, stderr: false }), "5\n");
  assert.equal(await collect(id, { stdout: false }), "err\n");
  assert.match(await collect(id, { tail: 1, timestamps: true }), /^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z err\n$/);
  assert.equal(await collect(id, { since: Date.now() + 1000 }), "");
  assert.equal(await collect(id, { until: 1000 }), "");
  const living = await createShell(engine, "echo a; sleep 0.4; echo b; sleep 0.4; printf c");
  await containers.start(living);
  const followed = collect(living, { follow: true });
  assert.equal(await followed, "a\nb\nc");
  assert.equal((await logOf(engine, living)).stdout, "a\nb\nc");
});

test("long lines and binary output come back byte for byte", async () => {
  const script = "head -c 100000 /dev/zero; printf '\\377\\376\\n\\001'; head -c 20000 /dev/zero";
  const { id } = await runShell(engine, script);
  const chunks: Uint8Array[] = [];
  const none = { tail: undefined, since: undefined, until: undefined };
  for await (const { data } of engine.containers.logs(id, {
    follow: false,
    stdout: true,
    stderr: true,
    timestamps: false,
    ...none,
  }))
    chunks.push(data);
  const expected = Buffer.concat([Buffer.alloc(100_000), Buffer.from([0xff, 0xfe, 0x0a, 0x01]), Buffer.alloc(20_000)]);
  assert.ok(Buffer.concat(chunks).equals(expected));
});

test("no log is kept where none was asked for", async () => {
  const id = await createShell(engine, "echo x", { hostConfig: { LogConfig: { Type: "none", Config: {} } } });
  const client = await engine.containers.attach(id, everything);
  const text = textOf(client);
  await engine.containers.start(id);
  assert.equal((await text).stdout, "x\n");
  await assert.rejects(logOf(engine, id), {
    code: "unsupported",
    message: "configured logging driver does not support reading",
  });
});
