import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { overlay2 } from "../storage-driver/overlay2/driver.ts";
import { bytes, StoreBench, tarOf } from "./store.fixture.ts";

const tars = await Promise.all(["a", "b", "c", "d"].map((name) => tarOf({ path: name, content: name })));
const [a, b, c, d] = tars as [Buffer, Buffer, Buffer, Buffer];

async function withStore(use: (bench: StoreBench) => Promise<void>): Promise<void> {
  await using bench = await StoreBench.open(overlay2);
  await use(bench);
}

test("a layer stays while an owner or a child needs it, and goes with the last", () =>
  withStore(async (bench) => {
    const { store, database } = bench;
    const low = await bench.add(undefined, a);
    const left = await bench.add(low.chainId, b, "image:left");
    const right = await bench.add(low.chainId, c, "image:right");
    assert.deepEqual(await store.collect(), []);
    await database.transact(store.releaseStatements("image:left"));
    assert.deepEqual(
      (await store.collect()).map(({ chainId }) => chainId),
      [left.chainId],
    );
    await database.transact(store.releaseStatements("image:right"));
    const gone = (await store.collect()).map(({ chainId }) => chainId);
    assert.deepEqual(gone, [right.chainId, low.chainId]);
    assert.deepEqual(store.list(), []);
    await bench.assertTidy();
  }));

test("two owners of one chain release it one by one; holding twice is holding once", () =>
  withStore(async (bench) => {
    const { store, database } = bench;
    const { chainId } = await bench.add(undefined, a, "image:one");
    await database.transact([
      ...store.holdStatements("container:x", chainId),
      ...store.holdStatements("container:x", chainId),
    ]);
    await database.transact(store.releaseStatements("image:one"));
    assert.deepEqual(await store.collect(), []);
    await database.transact(store.releaseStatements("container:x"));
    assert.equal((await store.collect()).length, 1);
    await assert.rejects(database.transact(store.holdStatements("image:late", chainId)), { code: "conflict" });
  }));

test("a pending layer, what is below it, and what is being registered over a layer are leased", () =>
  withStore(async (bench) => {
    const { store } = bench;
    const low = await bench.add(undefined, a);
    const pending = await store.register(low.chainId, bytes(b));
    assert.deepEqual(await store.collect(), []);
    const gate = Promise.withResolvers<void>();
    async function* gated(): AsyncGenerator<Uint8Array> {
      await gate.promise;
      yield* bytes(c);
    }
    const slow = store.register(low.chainId, gated());
    await store.abandon([pending]);
    assert.deepEqual(await store.collect(), []);
    gate.resolve();
    await store.abandon([await slow]);
    assert.equal((await store.collect()).length, 1);
    await bench.assertTidy();
  }));

test("registering what is being collected waits, and unpacks it again", () =>
  withStore(async (bench) => {
    const { store } = bench;
    const { diffId } = await bench.add(undefined, a);
    const [gone, again] = await Promise.all([
      store.collect(),
      store.register(undefined, bytes(a), { expected: diffId }),
    ]);
    assert.equal(gone.length, 1);
    assert.equal(again.existed, false);
    await store.publish([again], store.holdStatements("image:a", again.chainId));
    assert.equal(store.list().length, 1);
    await bench.assertTidy();
  }));

test("a container's chain stays without its image, and its init layer goes with the chain", () =>
  withStore(async (bench) => {
    const { store, database, driver } = bench;
    const { chainId } = await bench.add(undefined, a, "image:a");
    await store.createWritable("container", chainId, { storageOptions: {}, statements: [] });
    await database.transact(store.releaseStatements("image:a"));
    assert.deepEqual(await store.collect(), []);
    await store.removeWritable("container", []);
    assert.equal((await store.collect()).length, 1);
    assert.deepEqual(await driver.list(), []);
    await store[Symbol.asyncDispose]();
    await bench.assertTidy();
  }));

test("deep chains and many collections at once end with nothing left", () =>
  withStore(async (bench) => {
    const { store, database } = bench;
    let top = await bench.add(undefined, a);
    for (const tar of [b, c, d, a, b, c]) top = await bench.add(top.chainId, tar, "image:a");
    await database.transact(store.releaseStatements("image:a"));
    const rounds = await Promise.allSettled([store.collect(), store.collect(), store.collect()]);
    assert.equal(
      rounds.every(({ status }) => status === "fulfilled"),
      true,
    );
    assert.deepEqual(store.list(), []);
    assert.deepEqual(readdirSync(join(bench.root, "layers/recipes")), []);
  }));
