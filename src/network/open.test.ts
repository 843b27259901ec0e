import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { isError } from "../base/errors.ts";
import { EventBus } from "../base/events.ts";
import { openDatabase } from "../metadata/open.ts";
import { openNetworkStore } from "./open.ts";
import { networkSchema } from "./schema.ts";
import type { NetworkedContainer, NetworkStore, NewNetwork } from "./store.ts";

const request: NewNetwork = {
  name: "net1",
  driver: "bridge",
  internal: false,
  attachable: false,
  enableIPv6: false,
  options: {},
  labels: { a: "b" },
  ipam: {},
};

async function withStore(
  run: (store: NetworkStore, containers: NetworkedContainer[], reopen: () => Promise<NetworkStore>) => Promise<void>,
): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "network-"));
  try {
    await using database = await openDatabase(join(folder, "meta.db"), [networkSchema]);
    const containers: NetworkedContainer[] = [];
    const open = (): Promise<NetworkStore> =>
      openNetworkStore({ database, events: new EventBus(), containers: () => containers });
    await run(await open(), containers, open);
  } finally {
    await rm(folder, { recursive: true });
  }
}

test("bridge, host and none exist and keep their ids", () =>
  withStore(async (store, _containers, reopen) => {
    const before = store.list();
    assert.deepEqual(before.map(({ name }) => name).toSorted(), ["bridge", "host", "none"]);
    assert.deepEqual((await reopen()).list(), before);
  }));

test("a network is found by name, id and unique prefix", () =>
  withStore(async (store) => {
    const { id } = await store.create(request);
    for (const name of ["net1", id, id.slice(0, 12)]) assert.equal(store.get(name).id, id);
    assert.throws(() => store.get("other"), /network other not found/);
  }));

test("a taken name, another driver and a bad name are refused", () =>
  withStore(async (store) => {
    await store.create(request);
    await assert.rejects(store.create(request), /network with name net1 already exists/);
    await assert.rejects(store.create({ ...request, name: "n2", driver: "overlay" }), (e) => isError(e, "unsupported"));
    await assert.rejects(store.create({ ...request, name: "a b" }), (e) => isError(e, "invalid_argument"));
  }));

test("a network in use, or a predefined one, is not removed", () =>
  withStore(async (store, containers) => {
    await store.create(request);
    containers.push({ id: "c".repeat(64), name: "web", networks: ["net1"] });
    await assert.rejects(store.remove("net1"), /has active endpoints \(web\)/);
    await assert.rejects(store.remove("bridge"), /pre-defined network/);
    containers.pop();
    await store.remove("net1");
    assert.throws(
      () => store.get("net1"),
      (e) => isError(e, "not_found"),
    );
  }));

test("connect makes a user, disconnect takes it away, prune takes what nobody uses", () =>
  withStore(async (store, containers) => {
    const network = await store.create(request);
    containers.push({ id: "c".repeat(64), name: "web", networks: ["bridge"] });
    await store.connect("net1", "c".repeat(64), {});
    assert.deepEqual(store.users(network), [{ id: "c".repeat(64), name: "web" }]);
    await assert.rejects(store.connect("net1", "c".repeat(64), {}), /already exists/);
    assert.deepEqual(await store.prune(new Map()), []);
    await store.disconnect("net1", "c".repeat(64));
    await assert.rejects(store.disconnect("net1", "c".repeat(64)), /is not connected/);
    assert.deepEqual(await store.prune(new Map([["label", ["x"]]])), []);
    assert.deepEqual(await store.prune(new Map([["label", ["a=b"]]])), ["net1"]);
  }));

test("list filters by type, name and label, and refuses others", () =>
  withStore(async (store) => {
    await store.create(request);
    const names = (key: string, value: string): string[] => store.list(new Map([[key, [value]]])).map((n) => n.name);
    assert.deepEqual(names("type", "custom"), ["net1"]);
    assert.deepEqual(names("name", "et"), ["net1"]);
    assert.deepEqual(names("label", "a"), ["net1"]);
    assert.throws(() => names("bogus", "x"), /invalid filter 'bogus'/);
  }));
