import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { type EngineEvent, EventBus } from "../base/events.ts";
import { openDatabase } from "../metadata/open.ts";
import { networkSchema, openNetworkStore } from "./open.ts";
import type { NetworkStore } from "./store.ts";

async function withStore(
  work: (store: NetworkStore, again: () => Promise<NetworkStore>) => Promise<void>,
  seen: EngineEvent[] = [],
) {
  await using stack = new AsyncDisposableStack();
  const root = await mkdtemp(join(tmpdir(), "network-"));
  stack.defer(() => rm(root, { recursive: true }));
  const database = stack.use(await openDatabase(join(root, "meta.db"), [networkSchema]));
  const events = new EventBus();
  events.subscribe((event) => seen.push(event));
  const open = () => openNetworkStore({ database, events });
  await work(await open(), open);
}

const names = (store: NetworkStore, filters: Record<string, string[]> = {}) =>
  store.list(new Map(Object.entries(filters))).map((network) => network.name);

test("bridge, host and none are there from the start, keep their ids, and stay", () =>
  withStore(async (store, again) => {
    assert.deepEqual(names(store), ["bridge", "host", "none"]);
    const id = store.get("host").id;
    assert.equal((await again()).get("host").id, id);
    await assert.rejects(store.remove("host"), {
      code: "forbidden",
      message: "host is a pre-defined network and cannot be removed",
    });
    await assert.rejects(store.create({ name: "bridge" }), { code: "forbidden" });
  }));

test("a network is created, found by name, id and prefix, and removed", async () => {
  const seen: EngineEvent[] = [];
  await withStore(async (store) => {
    const made = await store.create({ name: "n1", labels: { a: "b" }, options: { o: "1" } });
    for (const name of ["n1", made.id, made.id.slice(0, 12)]) assert.deepEqual(store.get(name), made);
    await store.remove("n1");
    assert.throws(() => store.get("n1"), { code: "not_found", message: "network n1 not found" });
  }, seen);
  assert.deepEqual(
    seen.map((event) => event.action),
    ["create", "destroy"],
  );
});

test("a name is given once, also when two ask at the same time", () =>
  withStore(async (store) => {
    const results = await Promise.allSettled(Array.from({ length: 5 }, () => store.create({ name: "n1" })));
    assert.equal(results.filter((result) => result.status === "fulfilled").length, 1);
    await assert.rejects(store.create({ name: "n1" }), {
      code: "conflict",
      message: "network with name n1 already exists",
    });
  }));

test("drivers that do not exist are refused", () =>
  withStore(async (store) => {
    await assert.rejects(store.create({ name: "n1", driver: "overlay" }), { code: "not_found" });
    await assert.rejects(store.create({ name: "n1", driver: "host" }), { code: "forbidden" });
    assert.equal(names(store).length, 3);
  }));

test("a network in use is neither removed nor pruned", () =>
  withStore(async (store) => {
    const { id } = await store.create({ name: "n1" });
    await store.create({ name: "n2" });
    await store.connect("n1", "c1");
    assert.deepEqual(store.get("n1").containers, ["c1"]);
    await assert.rejects(store.remove("n1"), {
      code: "forbidden",
      message: `error while removing network: network n1 id ${id} has active endpoints`,
    });
    await assert.rejects(
      store.remove("n2", () => ["c2"]),
      { code: "forbidden" },
    );
    assert.deepEqual(await store.prune(new Map(), (network) => (network.name === "n2" ? ["c2"] : [])), []);
    await store.disconnect("n1", "c1");
    await assert.rejects(store.disconnect("n1", "c1"), { code: "forbidden" });
    assert.deepEqual(await store.prune(new Map()), ["n1", "n2"]);
  }));

test("a container that is gone leaves every network", () =>
  withStore(async (store) => {
    await store.create({ name: "n1" });
    await store.connect("n1", "c1");
    await store.forget("c1");
    await store.remove("n1");
  }));

test("filters", () =>
  withStore(async (store) => {
    const { id } = await store.create({ name: "front", labels: { a: "1", b: "" } });
    assert.deepEqual(names(store, { type: ["custom"] }), ["front"]);
    assert.deepEqual(names(store, { type: ["builtin"] }), ["bridge", "host", "none"]);
    assert.deepEqual(names(store, { driver: ["host", "null"] }), ["host", "none"]);
    assert.deepEqual(names(store, { label: ["a=1", "b"] }), ["front"]);
    assert.deepEqual(names(store, { label: ["a=2"] }), []);
    assert.deepEqual(names(store, { name: ["ron"] }), ["front"]);
    assert.deepEqual(names(store, { id: [id.slice(0, 10)] }), ["front"]);
    assert.throws(() => names(store, { bogus: ["1"] }), { code: "invalid_argument" });
    assert.deepEqual(await store.prune(new Map([["label!", ["a"]]])), []);
    assert.deepEqual(await store.prune(new Map([["label", ["a=1"]]])), ["front"]);
  }));
