import assert from "node:assert/strict";
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type ChainId, chainIdOf } from "../base/digest.ts";
import { overlay2 } from "../storage-driver/overlay2/driver.ts";
import { bytes, collectBytes, diffIdOf, StoreBench, tarOf } from "./store.fixture.ts";

const base = await tarOf({ path: "etc", type: "directory" }, { path: "etc/hosts", content: "hello" });
const child = await tarOf({ path: "etc/.wh.hosts" }, { path: "etc/new", content: "12345678" });

async function withStore(use: (bench: StoreBench) => Promise<void>): Promise<void> {
  await using bench = await StoreBench.open(overlay2);
  await use(bench);
}

test("a registered layer is known by its chain, its digest and its sizes", () =>
  withStore(async (bench) => {
    const first = await bench.add(undefined, base, "image:a");
    const second = await bench.add(first.chainId, child, "image:a");
    const chainId = chainIdOf(first.chainId, diffIdOf(child));
    const info = { chainId, diffId: diffIdOf(child), parent: first.chainId, size: 8, tarSize: child.length };
    const { content, ...told } = second;
    assert.deepEqual(told, { ...info, existed: false });
    assert.deepEqual(bench.store.find(chainId), { ...info, content });
    assert.notEqual(content, first.content);
    assert.deepEqual(
      bench.store.chain(chainId).map((layer) => layer.size),
      [5, 8],
    );
    assert.equal(bench.store.list().length, 2);
    assert.throws(() => bench.store.chain("sha256:none" as ChainId), { code: "not_found" });
    await using tree = await bench.store.mountLayer(chainId);
    assert.deepEqual(readdirSync(join(tree.path, "etc")), ["new"]);
    await tree[Symbol.asyncDispose]();
    await bench.assertTidy();
  }));

test("a layer's tar comes back bit for bit", () =>
  withStore(async (bench) => {
    const first = await bench.add(undefined, base, "image:a");
    const second = await bench.add(first.chainId, child, "image:a");
    assert.equal((await collectBytes(bench.store.tar(first.chainId))).equals(base), true);
    assert.equal((await collectBytes(bench.store.tar(second.chainId))).equals(child), true);
    await bench.assertTidy();
  }));

test("a reader may leave a tar at any time", () =>
  withStore(async (bench) => {
    const large = await tarOf(
      ...Array.from({ length: 40 }, (_, i) => ({ path: `f${i}`, content: "x".repeat(99_000) })),
    );
    const { chainId } = await bench.add(undefined, large, "image:a");
    for await (const chunk of bench.store.tar(chainId)) {
      assert.ok(chunk.length > 0);
      break;
    }
    await bench.assertTidy();
  }));

test("a tree that somebody changed is told as lost data, in Docker's words", () =>
  withStore(async (bench) => {
    const { chainId, diffId } = await bench.add(undefined, base, "image:a");
    const upper = bench.store.describeLayer(chainId).UpperDir ?? "";
    const message = `could not verify layer data for: ${diffId}. This may be because internal files in the layer store were modified. Re-pulling or rebuilding this image may resolve the issue`;
    writeFileSync(join(upper, "etc/hosts"), "hullo");
    await assert.rejects(collectBytes(bench.store.tar(chainId)), { code: "data_loss", message });
    writeFileSync(join(upper, "etc/hosts"), "");
    await assert.rejects(collectBytes(bench.store.tar(chainId)), { code: "data_loss", message });
    await bench.assertTidy();
  }));

test("a digest that differs from the expected one is refused, and nothing stays", () =>
  withStore(async (bench) => {
    const expected = diffIdOf(child);
    await assert.rejects(bench.store.register(undefined, bytes(base), { expected }), { code: "data_loss" });
    assert.deepEqual(bench.store.list(), []);
    await bench.assertTidy();
  }));

test("what is no tar, a stream that fails, and an abort leave nothing", () =>
  withStore(async (bench) => {
    await assert.rejects(bench.store.register(undefined, bytes(Buffer.alloc(5000, "junk"))), {
      code: "invalid_argument",
    });
    async function* broken(): AsyncGenerator<Uint8Array> {
      yield Uint8Array.from(base.subarray(0, 600));
      throw Object.assign(new Error("connection reset"), { code: "ECONNRESET" });
    }
    await assert.rejects(bench.store.register(undefined, broken()), /connection reset/);
    const abort = new AbortController();
    async function* slow(): AsyncGenerator<Uint8Array> {
      yield Uint8Array.from(base.subarray(0, 600));
      abort.abort(new Error("enough"));
      await new Promise(() => undefined);
    }
    await assert.rejects(bench.store.register(undefined, slow(), { signal: abort.signal }), /enough/);
    await assert.rejects(bench.store.register(undefined, bytes(base), { signal: abort.signal }), /enough/);
    await bench.assertTidy();
  }));

test("what a broken stream had unpacked is deleted soon, not at the next removal", () =>
  withStore(async (bench) => {
    async function* broken(): AsyncGenerator<Uint8Array> {
      yield Uint8Array.from(base.subarray(0, 600));
      throw new Error("connection reset");
    }
    await assert.rejects(bench.store.register(undefined, broken()), /connection reset/);
    const trash = join(bench.driver.home, "trash");
    for (let waited = 0; readdirSync(trash).length > 0 && waited < 5000; waited += 20) await sleep(20);
    assert.deepEqual(readdirSync(trash), []);
  }));

test("an unknown parent is not found", () =>
  withStore(async (bench) => {
    const parent = diffIdOf(base) as unknown as ChainId;
    await assert.rejects(bench.store.register(parent, bytes(child)), { code: "not_found" });
    await bench.assertTidy();
  }));

test("a layer that is expected and there is not read again; without a promise it is, and found to be the same", () =>
  withStore(async (bench) => {
    const first = await bench.add(undefined, base, "image:a");
    let read = 0;
    async function* counted(): AsyncGenerator<Uint8Array> {
      for await (const chunk of bytes(base)) {
        read += chunk.length;
        yield chunk;
      }
    }
    const known = await bench.store.register(undefined, counted(), { expected: first.diffId });
    assert.deepEqual({ existed: known.existed, read }, { existed: true, read: 0 });
    const found = await bench.store.register(undefined, counted());
    assert.deepEqual({ existed: found.existed, read }, { existed: true, read: base.length });
    await bench.store.publish([known, found], []);
    assert.equal(bench.store.list().length, 1);
    await bench.assertTidy();
  }));

test("the same chain registered twice at once is unpacked once", () =>
  withStore(async (bench) => {
    let started = 0;
    async function* tar(): AsyncGenerator<Uint8Array> {
      started++;
      yield* bytes(base, 100);
    }
    const expected = diffIdOf(base);
    const both = await Promise.all([1, 2, 3].map(() => bench.store.register(undefined, tar(), { expected })));
    assert.equal(started, 1);
    assert.deepEqual(both.map(({ existed }) => existed).sort(), [false, true, true]);
    await Promise.all(
      both.map((layer, index) =>
        bench.store.publish([layer], bench.store.holdStatements(`image:${index}`, layer.chainId)),
      ),
    );
    assert.equal(bench.store.list().length, 1);
    await bench.assertTidy();
  }));

test("when the first of two registrations fails, the second unpacks its own stream", () =>
  withStore(async (bench) => {
    const expected = diffIdOf(base);
    async function* broken(): AsyncGenerator<Uint8Array> {
      yield Uint8Array.from(base.subarray(0, 512));
      throw new Error("reset");
    }
    const [first, second] = await Promise.allSettled([
      bench.store.register(undefined, broken(), { expected }),
      bench.store.register(undefined, bytes(base), { expected }),
    ]);
    assert.equal(first.status, "rejected");
    assert.equal(second.status === "fulfilled" && second.value.existed, false);
  }));

test("an image's layers become ready together with its statements, or none does", () =>
  withStore(async (bench) => {
    const first = await bench.store.register(undefined, bytes(base));
    const second = await bench.store.register(first.chainId, bytes(child));
    assert.equal(bench.store.find(first.chainId), undefined);
    const hold = bench.store.holdStatements("image:a", second.chainId);
    const failing = { sql: "UPDATE layer_layers SET size = 0 WHERE id = 'nobody'", changes: 1 };
    await assert.rejects(bench.store.publish([first, second], [...hold, failing]), { code: "conflict" });
    assert.equal(bench.store.find(first.chainId), undefined);
    await bench.store.publish([first, second], hold);
    assert.notEqual(bench.store.find(second.chainId), undefined);
    await assert.rejects(bench.store.publish([first], []), { code: "conflict" });
    await bench.assertTidy();
  }));

test("publishing a child publishes the pending parent that it stands on", () =>
  withStore(async (bench) => {
    const first = await bench.store.register(undefined, bytes(base));
    const second = await bench.store.register(first.chainId, bytes(child));
    await bench.store.publish([second], bench.store.holdStatements("image:a", second.chainId));
    await bench.store.abandon([first]);
    assert.equal(bench.store.list().length, 2);
    await bench.assertTidy();
  }));

test("abandoned layers go, except those that another operation uses", () =>
  withStore(async (bench) => {
    const expected = diffIdOf(base);
    const mine = await bench.store.register(undefined, bytes(base), { expected });
    const theirs = await bench.store.register(undefined, bytes(base), { expected });
    const top = await bench.store.register(mine.chainId, bytes(child));
    await bench.store.abandon([mine, top]);
    assert.equal((await bench.driver.list()).length, 2, "the layer and its diff");
    await bench.store.publish([theirs], bench.store.holdStatements("image:b", theirs.chainId));
    assert.equal(bench.store.list().length, 1);
    const again = await bench.store.register(theirs.chainId, bytes(child));
    await bench.store.abandon([again]);
    await bench.store.abandon([again]);
    await bench.assertTidy();
  }));

test("a chain may be as deep as the driver and a container allow, and no deeper", () =>
  withStore(async (bench) => {
    const tar = (depth: number): Promise<Buffer> => tarOf({ path: `file${depth}` });
    Object.defineProperty(bench.driver, "traits", { value: { ...bench.driver.traits, maxParents: 4 } });
    let top: ChainId | undefined;
    for (let depth = 0; depth < 3; depth++) top = (await bench.add(top, await tar(depth), "image:a")).chainId;
    await assert.rejects(bench.store.register(top, bytes(await tar(4))), {
      code: "invalid_argument",
      message: /^max depth exceeded/,
    });
    await bench.store.createWritable("c", top, { storageOptions: {}, statements: [] });
    await bench.assertTidy();
  }));
