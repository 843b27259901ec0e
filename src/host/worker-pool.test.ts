import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { stripTypeScriptTypes } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { EngineError, isError, systemCode } from "../base/errors.ts";
import { createPool } from "./worker-pool.ts";

const tasks = new URL("./worker-pool.fixture.ts", import.meta.url);
const flag = (): Int32Array => new Int32Array(new SharedArrayBuffer(4));
const never = (): Promise<never> => new Promise(() => undefined);

async function until(condition: () => boolean): Promise<void> {
  for (let tries = 0; !condition(); tries++) {
    assert.ok(tries < 1000, "waited too long");
    await sleep(5);
  }
}

async function sizeOf(bytes: AsyncIterable<Uint8Array>): Promise<number> {
  let total = 0;
  for await (const chunk of bytes) total += chunk.length;
  return total;
}

async function* repeat(chunk: Uint8Array, count: number): AsyncGenerator<Uint8Array> {
  for (let index = 0; index < count; index++) yield chunk;
}

test("a task gets its argument and gives its result", async () => {
  await using pool = createPool();
  assert.equal(await pool.run(tasks, "add", { a: 2, b: 3 }), 5);
});

test("threads are used again, and end when idle", async () => {
  await using pool = createPool({ size: 2, idleMs: 50 });
  const first = await pool.run(tasks, "thread", undefined);
  assert.equal(await pool.run(tasks, "thread", undefined), first);
  await sleep(300);
  assert.notEqual(await pool.run(tasks, "thread", undefined), first);
});

test("bytes flow through a task in order, and a writer may use its buffer again", async () => {
  await using pool = createPool();
  const source = Buffer.from("abcdefghij".repeat(100_003));
  async function* pieces(): AsyncGenerator<Uint8Array> {
    for (let at = 0, size = 1; at < source.length; at += size, size = (size * 7) % 300_007)
      yield source.subarray(at, at + size);
  }
  const { output, result } = pool.stream<undefined, number>(tasks, "upper", undefined, { input: pieces() });
  const received: Uint8Array[] = [];
  for await (const chunk of output) received.push(chunk);
  assert.ok(Buffer.concat(received).equals(Buffer.from(source.toString().toUpperCase())));
  assert.equal(await result, source.length);
  const produced = pool.stream(tasks, "produce", { size: 1000, count: 250 });
  let at = 0;
  for await (const chunk of produced.output)
    for (const byte of chunk) assert.equal(byte, Math.floor(at++ / 1000) % 256);
  assert.equal(at, 250_000);
});

test("one buffer may be given as input many times", async () => {
  await using pool = createPool();
  const input = repeat(new Uint8Array(300_000), 20);
  assert.equal(await pool.run(tasks, "countInput", undefined, { input }), 6_000_000);
});

test("memory of input comes back to be filled again, once the next chunk was asked for", async () => {
  await using pool = createPool();
  const input = (): AsyncIterable<Uint8Array> => repeat(new Uint8Array(128 * 1024), 40);
  assert.equal(await pool.run(tasks, "keepFirst", 0, { input: input() }), 128 * 1024);
  assert.equal(await pool.run(tasks, "keepFirst", 30, { input: input() }), 0, "it was transferred back");
});

test("a writer waits for a reader that does not read", async () => {
  await using pool = createPool();
  const progress = flag();
  const { output, result } = pool.stream(tasks, "produceCounted", progress);
  await until(() => Atomics.load(progress, 0) >= 16);
  await sleep(100);
  assert.ok(Atomics.load(progress, 0) <= 20, `${Atomics.load(progress, 0)} chunks of 64 KiB were sent unread`);
  assert.equal(await sizeOf(output), 1000 * 64 * 1024);
  await result;
});

test("input waits for a task that does not read", async () => {
  await using pool = createPool({ size: 1 });
  let given = 0;
  async function* endless(): AsyncGenerator<Uint8Array> {
    for (; given < 10_000; given++) yield new Uint8Array(64 * 1024);
  }
  const abort = new AbortController();
  const stopped = flag();
  const task = pool.run(tasks, "waitForAbort", stopped, { input: endless(), signal: abort.signal });
  await until(() => given >= 16);
  await sleep(100);
  assert.ok(given <= 18, `${given} chunks of 64 KiB were taken from the source`);
  abort.abort(new EngineError("canceled", "enough"));
  await assert.rejects(task, { message: "enough" });
});

test("a reader that leaves does not stop the task", async () => {
  await using pool = createPool();
  const { output, result } = pool.stream(tasks, "produce", { size: 65536, count: 100 });
  for await (const chunk of output) {
    assert.ok(chunk.length > 0);
    break;
  }
  assert.equal(await result, 100);
  assert.equal(await pool.run(tasks, "produce", { size: 65536, count: 100 }), 100);
});

test("a task that leaves its input gives the source back", async () => {
  await using pool = createPool();
  let closed = false;
  async function* source(): AsyncGenerator<Uint8Array> {
    try {
      for (;;) yield new Uint8Array(1000);
    } finally {
      closed = true;
    }
  }
  assert.ok((await pool.run<undefined, number>(tasks, "firstChunk", undefined, { input: source() })) > 0);
  await until(() => closed);
});

test("errors keep their class, code, cause and system details", async () => {
  await using pool = createPool();
  await assert.rejects(pool.run(tasks, "fail", "engine"), (error) => {
    assert.ok(isError(error, "conflict"));
    assert.equal(error.message, "layer x is in use");
    assert.equal(systemCode(error.cause), "ENOENT");
    return true;
  });
  await assert.rejects(pool.run(tasks, "fail", "system"), { code: "ENOENT", errno: 2, syscall: "open", path: "/x" });
  await assert.rejects(pool.run(tasks, "fail", "plain"), { name: "TypeError", message: "not a function" });
  await assert.rejects(pool.run(tasks, "absent", 1), /exports no function absent/);
  await assert.rejects(pool.run(tasks, "uncloneable", 1), { name: "DataCloneError" });
  await assert.rejects(pool.run(tasks, "add", { a: () => 1 }), { name: "DataCloneError" });
  const { output, result } = pool.stream(tasks, "fail", "system");
  await assert.rejects(sizeOf(output), { code: "ENOENT" });
  await assert.rejects(result, { code: "ENOENT" });
});

test("an input that fails lets the task fail with its error", async () => {
  await using pool = createPool();
  async function* broken(): AsyncGenerator<Uint8Array> {
    yield new Uint8Array(10);
    throw new EngineError("data_loss", "the blob is damaged");
  }
  const task = pool.run(tasks, "countInput", undefined, { input: broken() });
  await assert.rejects(task, (error) => isError(error, "data_loss"));
});

test("an abort reaches a synchronous loop, a waiting task and one in line", async () => {
  await using pool = createPool({ size: 1 });
  const started = flag();
  const abort = new AbortController();
  const { signal } = abort;
  const reason = new EngineError("canceled", "the client left");
  const spinning = pool.run(tasks, "spin", started, { signal });
  const queued = pool.run(tasks, "add", { a: 1, b: 1 }, { signal });
  const settled = Promise.allSettled([spinning, queued]);
  await until(() => Atomics.load(started, 0) === 1);
  abort.abort(reason);
  assert.deepEqual(
    await settled,
    [1, 2].map(() => ({ status: "rejected", reason })),
  );
  await assert.rejects(pool.run(tasks, "add", { a: 1, b: 1 }, { signal }), (error) => error === reason);
  const stopped = flag();
  const later = new AbortController();
  const waiting = pool.run(tasks, "waitForAbort", stopped, { signal: later.signal });
  await sleep(50);
  later.abort(reason);
  await assert.rejects(waiting, (error) => error === reason);
  assert.equal(Atomics.load(stopped, 0), 1, "the task had ended before its promise did");
  assert.equal(await pool.run(tasks, "add", { a: 1, b: 1 }), 2);
});

test("an abort ends a task that waits for input or for its reader", async () => {
  await using pool = createPool();
  const abort = new AbortController();
  async function* silent(): AsyncGenerator<Uint8Array> {
    yield await never();
  }
  const starved = pool.run(tasks, "countInput", undefined, { input: silent(), signal: abort.signal });
  const full = pool.stream(tasks, "produce", { size: 65536, count: 1000 }, { signal: abort.signal });
  await sleep(100);
  abort.abort(new EngineError("canceled", "stop"));
  await assert.rejects(starved, { message: "stop" });
  await assert.rejects(full.result, { message: "stop" });
});

test("tasks that wait for slow peers leave their threads to others", async () => {
  await using pool = createPool({ size: 1 });
  const slow = [1, 2, 3].map(() => pool.stream(tasks, "produce", { size: 65536, count: 100 }));
  assert.equal(await pool.run(tasks, "add", { a: 1, b: 2 }), 3);
  const sizes = await Promise.all(slow.map(({ output }) => sizeOf(output)));
  assert.deepEqual(sizes, [6_553_600, 6_553_600, 6_553_600]);
});

test("a thread that dies rejects its task as internal, and is replaced", async () => {
  await using pool = createPool({ size: 1 });
  const dying = pool.run(tasks, "exit", undefined);
  const next = pool.run(tasks, "add", { a: 3, b: 4 });
  await assert.rejects(dying, (error) => isError(error, "internal"));
  assert.equal(await next, 7);
});

test("a task that exhausts its thread's memory does not take the process with it", async () => {
  await using pool = createPool({ size: 1, heapMb: 64 });
  await assert.rejects(pool.run(tasks, "exhaustMemory", undefined), (error) => {
    assert.ok(isError(error, "internal"));
    assert.equal(systemCode(error.cause), "ERR_WORKER_OUT_OF_MEMORY");
    return true;
  });
  assert.equal(await pool.run(tasks, "add", { a: 3, b: 4 }), 7);
});

test("dispose ends running and waiting tasks, and refuses later ones", async () => {
  const pool = createPool({ size: 1 });
  const started = flag();
  const running = pool.run(tasks, "spin", started);
  const waiting = pool.run(tasks, "spin", flag());
  const ended = Promise.allSettled([running, waiting]);
  await until(() => Atomics.load(started, 0) === 1);
  await pool[Symbol.asyncDispose]();
  await pool[Symbol.asyncDispose]();
  for (const { status } of await ended) assert.equal(status, "rejected");
  await assert.rejects(pool.run(tasks, "add", { a: 1, b: 1 }), (error) => isError(error, "unavailable"));
});

test("a build inside node_modules runs its tasks, too", async () => {
  const directory = mkdtempSync(join(tmpdir(), "strata-dist-"));
  try {
    const dist = join(directory, "node_modules/strata/dist");
    for (const folder of ["base", "host"]) {
      mkdirSync(join(dist, folder), { recursive: true });
      const source = new URL(`../${folder}/`, import.meta.url);
      for (const file of readdirSync(source).filter((name) => name.endsWith(".ts") && !name.endsWith(".test.ts"))) {
        const text = stripTypeScriptTypes(readFileSync(new URL(file, source), "utf8"));
        const built = text.replace(/(from\s+"\.[^"]+)\.ts"/g, '$1.js"');
        writeFileSync(join(dist, folder, file.replace(/\.ts$/, ".js")), built);
      }
    }
    writeFileSync(join(directory, "node_modules/strata/package.json"), '{"type":"module"}');
    const here = pathToFileURL(`${dist}/host/`);
    const built = (await import(new URL("worker-pool.js", here).href)) as { createPool: typeof createPool };
    await using pool = built.createPool();
    assert.equal(await pool.run(new URL("./worker-pool.fixture.ts", here), "add", { a: 20, b: 22 }), 42);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
