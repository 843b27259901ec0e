import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { EngineError } from "../base/errors.ts";
import { type EngineEvent, EventBus } from "../base/events.ts";
import { createPool } from "../host/worker-pool.ts";
import type { Database } from "../metadata/database.ts";
import { openDatabase } from "../metadata/open.ts";
import type { VolumeDriver } from "../volume-driver/driver.ts";
import { openVolumeDrivers } from "../volume-driver/list.ts";
import { openVolumeStore } from "./open.ts";
import { volumeSchema } from "./schema.ts";
import type { VolumeStore } from "./store.ts";

type Given = {
  readonly root: string;
  readonly store: VolumeStore;
  readonly database: Database;
  readonly events: readonly EngineEvent[];
  /** A store over the same root, as after a restart; `change` may put another driver in front. */
  readonly reopen: (change?: (driver: VolumeDriver) => VolumeDriver) => Promise<VolumeStore>;
};

async function given(work: (given: Given) => Promise<void>): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const root = await mkdtemp(join(tmpdir(), "volume-"));
  stack.defer(() => rm(root, { recursive: true, force: true }));
  const database = stack.use(await openDatabase(join(root, "meta.db"), [volumeSchema]));
  const pool = stack.use(createPool());
  const bus = new EventBus();
  const events: EngineEvent[] = [];
  bus.subscribe((event) => events.push(event));
  const reopen: Given["reopen"] = async (change = (driver) => driver) => {
    const drivers = (await openVolumeDrivers({ root, pool })).map(change);
    return openVolumeStore({ database, drivers, pool, events: bus });
  };
  await work({ root, store: await reopen(), database, events, reopen });
}

const filters = (object: Record<string, string[]> = {}) => new Map(Object.entries(object));
const namesOf = async (store: VolumeStore, object?: Record<string, string[]>) =>
  (await store.list(filters(object))).volumes.map((volume) => volume.name);
const directories = (root: string) => readdir(join(root, "volumes"));

/** A driver that behaves as `driver` but for the methods in `change`. */
const withChange = (driver: VolumeDriver, change: Partial<VolumeDriver>): VolumeDriver =>
  new Proxy(driver, {
    get: (target, key) => {
      const value: unknown = Reflect.get(Object.hasOwn(change, key) ? change : target, key);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });

describe("names", () => {
  test("a volume is created once; the same name again is the same volume, options and labels ignored", () =>
    given(async ({ store, root }) => {
      const first = await store.create({ name: "v1", labels: { a: "b" } });
      const second = await store.create({ name: "v1", driver: "local", labels: { c: "d" } });
      assert.deepEqual(second, { ...first, created: false });
      assert.deepEqual(first, {
        name: "v1",
        driver: "local",
        options: {},
        labels: { a: "b" },
        anonymous: false,
        createdAt: first.createdAt,
        mountpoint: join(root, "volumes/v1/_data"),
        scope: "local",
        created: true,
      });
      assert.match(first.createdAt, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
      assert.deepEqual({ ...(await store.get("v1")), created: true }, first);
    }));

  test("without a name it is anonymous: 64 hex digits and Docker's label", () =>
    given(async ({ store }) => {
      const { name, anonymous, labels } = await store.create({ labels: { a: "b" } });
      assert.match(name, /^[0-9a-f]{64}$/);
      assert.deepEqual([anonymous, labels], [true, { a: "b", "com.docker.volume.anonymous": "" }]);
    }));

  test("two hundred creates of ten names at once make ten volumes", () =>
    given(async ({ store }) => {
      const made = await Promise.all(Array.from({ length: 200 }, (_, i) => store.create({ name: `v${i % 10}x` })));
      assert.equal(made.filter(({ created }) => created).length, 10);
      assert.equal((await namesOf(store)).length, 10);
    }));

  const refused: readonly (readonly [object, string, string])[] = [
    [
      { name: "x" },
      "invalid_argument",
      "create x: volume name is too short, names should be at least two alphanumeric characters",
    ],
    [
      { name: "rel/path" },
      "invalid_argument",
      'create rel/path: "rel/path" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path',
    ],
    [{ name: "tq", options: { bogus: "1" } }, "invalid_argument", 'create tq: invalid option: "bogus"'],
    [{ name: "tq", options: { type: "tmpfs" } }, "invalid_argument", 'create tq: missing required option: "device"'],
    [
      { name: "v9", driver: "nope" },
      "not_found",
      'create v9: error looking up volume plugin nope: plugin "nope" not found',
    ],
    [
      { name: "v1", driver: "tdrv" },
      "conflict",
      "create v1: driver 'local' already has volume 'v1': volume name must be unique",
    ],
  ];
  for (const [request, code, message] of refused)
    test(`${JSON.stringify(request)} is refused in dockerd's words and leaves nothing`, () =>
      given(async ({ store, root }) => {
        await store.create({ name: "v1" });
        await assert.rejects(store.create(request), { code, message });
        assert.deepEqual([await namesOf(store), await directories(root)], [["v1"], ["v1"]]);
      }));

  test("an unknown name", () =>
    given(async ({ store }) => {
      const error = { code: "not_found", message: "get nosuch: no such volume" };
      assert.equal(store.find("nosuch"), undefined);
      await assert.rejects(store.get("nosuch"), error);
      await assert.rejects(store.remove("nosuch", { force: false }), error);
      await store.remove("nosuch", { force: true });
    }));
});

describe("references", () => {
  const [c1, c2] = ["c1".repeat(32), "c2".repeat(32)];

  test("a volume in use is not removed, with or without force, and goes when its last container goes", () =>
    given(async ({ store, database, root }) => {
      await store.create({ name: "v1" });
      await database.transact([...store.holdStatements(c1, ["v1", "v1"]), ...store.holdStatements(c2, ["v1"])]);
      for (const force of [false, true])
        await assert.rejects(store.remove("v1", { force }), {
          code: "conflict",
          message: `remove v1: volume is in use - [${c1}, ${c2}]`,
        });
      await database.transact(store.releaseStatements(c1));
      assert.deepEqual(store.references("v1"), [c2]);
      await database.transact(store.releaseStatements(c2));
      await store.remove("v1", { force: false });
      assert.deepEqual([await namesOf(store), await directories(root)], [[], []]);
    }));

  test("a hold of a volume that is not there fails with the container's whole transaction", () =>
    given(async ({ store, database }) => {
      await store.create({ name: "v1" });
      await assert.rejects(database.transact(store.holdStatements(c1, ["v1", "nosuch"])), { code: "conflict" });
      assert.deepEqual(store.references("v1"), []);
      await database.transact(store.holdStatements(c1, ["v1"]));
      await database.transact(store.holdStatements(c1, ["v1"]));
      assert.deepEqual(store.references("v1"), [c1]);
    }));

  test("a hold and a removal at once: one of them wins, never both", () =>
    given(async ({ store, database }) => {
      for (let round = 0; round < 20; round++) {
        await store.create({ name: "v1" });
        const [held, removed] = await Promise.allSettled([
          database.transact(store.holdStatements(c1, ["v1"])),
          store.remove("v1", { force: false }),
        ]);
        assert.notEqual(held.status, removed.status);
        assert.equal(store.find("v1") !== undefined, held.status === "fulfilled");
        await database.transact(store.releaseStatements(c1));
        await store.remove("v1", { force: true });
      }
    }));
});

describe("list and prune", () => {
  test("filters", () =>
    given(async ({ store, database }) => {
      await store.create({ name: "front", labels: { a: "1", b: "" } });
      await store.create({ name: "back" });
      await database.transact(store.holdStatements("c1", ["back"]));
      assert.deepEqual(await namesOf(store), ["back", "front"]);
      assert.deepEqual(await namesOf(store, { dangling: ["true"] }), ["front"]);
      assert.deepEqual(await namesOf(store, { dangling: ["0"] }), ["back"]);
      assert.deepEqual(await namesOf(store, { name: ["ron"] }), ["front"]);
      assert.deepEqual(await namesOf(store, { name: ["^b.ck$", "zzz"] }), ["back"]);
      assert.deepEqual(await namesOf(store, { name: ["["] }), []);
      assert.deepEqual(await namesOf(store, { driver: ["local"] }), ["back", "front"]);
      assert.deepEqual(await namesOf(store, { driver: ["other"] }), []);
      assert.deepEqual(await namesOf(store, { label: ["a=1", "b"] }), ["front"]);
      assert.deepEqual(await namesOf(store, { label: ["a=1", "c"] }), []);
      for (const bad of [{ bogus: ["1"] }, { dangling: ["x"] }, { name: ["(a+)+$"] }])
        await assert.rejects(namesOf(store, bad), { code: "invalid_argument" });
    }));

  test("prune takes anonymous volumes that nobody uses, all of them when asked, and says what it gave back", () =>
    given(async ({ store, database, events, root }) => {
      const [used, free] = [await store.create({}), await store.create({})];
      await store.create({ name: "named" });
      await store.create({ name: "labelled", labels: { keep: "1" } });
      await writeFile(join(free.mountpoint, "f"), Buffer.alloc(5000));
      await database.transact(store.holdStatements("c1", [used.name]));
      assert.deepEqual(await store.prune(filters()), { removed: [free.name], reclaimed: 5000 });
      assert.deepEqual((await store.prune(filters({ all: ["true"], "label!": ["keep"] }))).removed, ["named"]);
      assert.deepEqual((await store.prune(filters({ all: ["1"], label: ["keep=1"] }))).removed, ["labelled"]);
      assert.deepEqual(await directories(root), [used.name]);
      await assert.rejects(store.prune(filters({ name: ["x"] })), { code: "invalid_argument" });
      assert.deepEqual(events.filter(({ action }) => action === "prune")[0]?.attributes, { reclaimed: "5000" });
    }));

  test("a second prune at the same time is refused", () =>
    given(async ({ store }) => {
      await store.create({});
      const [, second] = await Promise.allSettled([store.prune(filters()), store.prune(filters())]);
      assert.equal(second.status === "rejected" && second.reason.message, "a prune operation is already running");
    }));

  test("the size of a volume, or -1 when its driver fails to say", () =>
    given(async ({ store, reopen }) => {
      const { mountpoint } = await store.create({ name: "v1" });
      await writeFile(join(mountpoint, "f"), Buffer.alloc(1234));
      assert.equal(await store.usage("v1"), 1234);
      const broken = await reopen((driver) => withChange(driver, { usage: () => Promise.reject(new Error("stale")) }));
      assert.equal(await broken.usage("v1"), -1);
    }));
});

test("events say what was made and removed", () =>
  given(async ({ store, events }) => {
    await store.create({ name: "v1" });
    await store.create({ name: "v1" });
    await store.remove("v1", { force: false });
    assert.deepEqual(
      events.map(({ type, action, id, attributes }) => [type, action, id, attributes]),
      [
        ["volume", "create", "v1", { driver: "local" }],
        ["volume", "destroy", "v1", { driver: "local" }],
      ],
    );
  }));

describe("start-up", () => {
  test("forgets what was being created, finishes what was being removed, keeps the rest", () =>
    given(async ({ store, database, reopen, root }) => {
      for (const name of ["made", "half-made", "half-gone"]) await store.create({ name });
      await database.transact([
        { sql: "UPDATE volume SET state = 'creating' WHERE name = 'half-made'" },
        { sql: "UPDATE volume SET state = 'removing' WHERE name = 'half-gone'" },
      ]);
      assert.deepEqual(await namesOf(store), ["made"]);
      assert.deepEqual(await namesOf(await reopen()), ["made"]);
      assert.deepEqual([await directories(root), database.all("SELECT name FROM volume").length], [["made"], 1]);
    }));

  test("takes in a directory without a row, and drops a row without a directory that nobody uses", () =>
    given(async ({ store, database, reopen, root }) => {
      for (const name of ["lost", "lost-in-use"]) await store.create({ name });
      await database.transact(store.holdStatements("c1", ["lost-in-use"]));
      for (const name of ["lost", "lost-in-use"]) await rm(join(root, "volumes", name), { recursive: true });
      await mkdir(join(root, "volumes/restored/_data"), { recursive: true });
      const again = await reopen();
      assert.deepEqual(await namesOf(again), ["lost-in-use", "restored"]);
      await assert.rejects(again.mount("lost-in-use", "c1"), { code: "not_found" });
      assert.equal(await again.mount("restored", "c1"), join(root, "volumes/restored/_data"));
    }));

  test("a create that fails half-way leaves neither row nor directory, and the name is free", () =>
    given(async ({ reopen, root }) => {
      const failing = await reopen((driver) =>
        withChange(driver, {
          create: async (spec) => {
            await driver.create(spec);
            throw new EngineError("no_space", "disk full");
          },
        }),
      );
      await assert.rejects(failing.create({ name: "v1" }), { code: "no_space", message: "create v1: disk full" });
      assert.deepEqual(await directories(root), []);
      assert.equal((await (await reopen()).create({ name: "v1" })).created, true);
    }));

  test("a removal that the driver refuses leaves the volume as it was", () =>
    given(async ({ store, reopen }) => {
      await store.create({ name: "v1" });
      await store.mount("v1", "c1");
      await assert.rejects(store.remove("v1", { force: false }), {
        code: "conflict",
        message: /^remove v1: volume has active mounts/,
      });
      await store.unmount("v1", "c1");
      const busy = await reopen((driver) =>
        withChange(driver, { remove: () => Promise.reject(new EngineError("internal", "device busy")) }),
      );
      await assert.rejects(busy.remove("v1", { force: false }), { message: "remove v1: device busy" });
      assert.ok((await stat((await busy.get("v1")).mountpoint)).isDirectory());
    }));
});
