/** Migration of volumes between drivers: the switch is one moment, before it the old is whole and after it the new. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { changeTree, randomOf } from "../../archive/random-changes.fixture.ts";
import { pictureOf } from "../../host/tree-picture.ts";
import { type Held, noUsers, type VolumeUsers } from "../users.ts";
import { findMove, putMove } from "../verb-records.ts";
import { type Given, given, plain, withChange } from "./verbs.fixture.ts";

const skip = process.getuid?.() === 0 ? false : "trees have owners";
const seed = Number(process.env.STRATA_SEED ?? Date.now() % 1_000_000);
const tmpfs = { driver: "tmpfs", options: { size: "200m" } };

async function filled({ store }: Pick<Given, "store">, name: string): Promise<string> {
  const { mountpoint } = await store.create({ name, labels: { a: "b" } });
  changeTree(mountpoint, randomOf(seed), 40);
  return mountpoint;
}

async function contentOf({ store }: Pick<Given, "store">, name: string) {
  const path = await store.mount(name, "look");
  try {
    return pictureOf(path);
  } finally {
    await store.unmount(name, "look");
  }
}

/** One container that runs with every volume, and writes until it is stopped. */
function writer(path: string, store: () => Given["store"]): VolumeUsers & { readonly log: string[]; running: boolean } {
  let count = 0;
  let timer: NodeJS.Timeout | undefined;
  const user = {
    log: [] as string[],
    running: false,
    of: () => [
      { id: "c1", name: "one", status: user.running ? "running" : "exited", mounts: [], goesWithItsEnd: false },
    ],
    async start(ids: readonly string[]) {
      user.log.push(`start ${ids.join(" ")}`);
      await store().mount("v1", "c1");
      timer = setInterval(() => writeFileSync(join(path, `written${count++ % 5}`), `${count}`), 1);
      user.running = true;
    },
    async stop(ids: readonly string[]) {
      user.log.push(`stop ${ids.join(" ")}`);
      clearInterval(timer);
      await store().unmount("v1", "c1");
      user.running = false;
    },
    async hold(): Promise<Held> {
      return { ...(await noUsers.hold("", { freeze: false })), running: user.running ? ["c1"] : [] };
    },
  };
  return user;
}

describe("migrate", { skip }, () => {
  test("to another driver and back: the same tree, name and labels; the old data is gone", () =>
    given(async ({ root, database, reopen }) => {
      const { store, verbs } = await reopen(plain);
      const before = pictureOf(await filled({ store }, "v1"));
      const report = await verbs.migrate("v1", tmpfs);
      assert.deepEqual([report.from, report.to, report.stopped], ["local", "tmpfs", []]);
      assert.ok(!existsSync(join(root, "volumes/v1")));
      assert.deepEqual(await contentOf({ store }, "v1"), before, `STRATA_SEED=${seed}`);
      const { driver, labels, options, mountpoint } = await store.get("v1");
      assert.deepEqual([driver, labels, options], ["tmpfs", { a: "b" }, tmpfs.options]);
      assert.ok(mountpoint.includes("volume-drivers/tmpfs/v1"));
      assert.equal(findMove(database, "v1"), undefined);
      await verbs.migrate("v1", { driver: "local" });
      assert.deepEqual(await contentOf({ store }, "v1"), before);
      assert.deepEqual(readdirSync(join(root, "volume-drivers/tmpfs")), []);
      await store.remove("v1", { force: false });
    }));

  test("a container that writes all the time is stopped for the end and loses nothing that it wrote", () =>
    given(async ({ reopen }) => {
      const path = await filled(await reopen(plain), "v1");
      let opened: Awaited<ReturnType<typeof reopen>> | undefined;
      const user = writer(path, () => opened?.store ?? assert.fail());
      opened = await reopen(plain, user);
      await user.start(["c1"]);
      let before: unknown;
      const { stop } = user;
      user.stop = async (ids) => {
        await stop(ids);
        before = pictureOf(path);
      };
      user.start = async (ids) => void user.log.push(`start ${ids.join(" ")}`);
      const report = await opened.verbs.migrate("v1", tmpfs);
      assert.deepEqual(user.log, ["start c1", "stop c1", "start c1"]);
      assert.deepEqual(report.stopped, ["one"]);
      assert.deepEqual(await contentOf(opened, "v1"), before);
    }));

  test("what cannot go is refused before anything is done, and what fails leaves the volume where it was", () =>
    given(async ({ root, database, reopen }) => {
      const { store, verbs } = await reopen(plain);
      const path = await filled({ store }, "v1");
      writeFileSync(join(path, "big"), Buffer.alloc(3_000_000, 1));
      const before = pictureOf(path);
      await assert.rejects(verbs.migrate("v1", { driver: "local" }), { code: "conflict", message: /on local already/ });
      await assert.rejects(verbs.migrate("v1", { driver: "none" }), { code: "not_found" });
      await assert.rejects(verbs.migrate("none", tmpfs), { code: "not_found" });
      await assert.rejects(verbs.migrate("v1", { driver: "tmpfs", options: { odd: "1" } }), {
        code: "invalid_argument",
      });
      await assert.rejects(verbs.migrate("v1", { driver: "tmpfs", options: { size: "1m" } }), { code: "no_space" });
      await assert.rejects(verbs.migrate("v1", tmpfs, { signal: AbortSignal.abort(new Error("enough")) }), /enough/);
      await store.mount("v1", "somebody");
      await assert.rejects(verbs.migrate("v1", tmpfs), { code: "conflict", message: /somebody has it mounted/ });
      await store.unmount("v1", "somebody");
      assert.equal((await store.get("v1")).driver, "local");
      assert.deepEqual(pictureOf(path), before);
      assert.equal(findMove(database, "v1"), undefined);
      assert.deepEqual(readdirSync(join(root, "volume-drivers/tmpfs")), []);
      await assert.rejects(verbs.cancelMigration("v1"), { code: "not_found" });
    }));

  test("snapshots that a driver keeps hold a volume there", () =>
    given(async ({ verbs, store }) => {
      await filled({ store }, "v1");
      const { snapshot } = await verbs.createSnapshot("v1", "first");
      assert.equal(snapshot.keptBy, "driver");
      await assert.rejects(verbs.migrate("v1", tmpfs), {
        code: "conflict",
        message: /keeps snapshots of it \(first\)/,
      });
      await verbs.removeSnapshot("v1", "first");
      await verbs.migrate("v1", tmpfs);
    }));

  test("killed while it copied: the volume is what it was, and the same command goes on; another one starts anew", () =>
    given(async ({ database, root, reopen }) => {
      const { store } = await reopen(plain);
      const before = pictureOf(await filled({ store }, "v1"));
      // as a crash leaves it: the row, and part of the tree at the target, damaged
      const half = { volume: "v1", ...tmpfs, state: "copying", stopped: [] } as const;
      await database.transact([putMove(half)]);
      const drivers = await reopen((driver) => driver);
      const again = await reopen(plain);
      await again.verbs.recover();
      assert.deepEqual(await contentOf(again, "v1"), before);
      const report = await again.verbs.migrate("v1", tmpfs);
      assert.equal(report.to, "tmpfs");
      assert.deepEqual(await contentOf(again, "v1"), before);
      await again.verbs.migrate("v1", { driver: "local" });
      await database.transact([putMove({ ...half, options: { size: "1m" } })]);
      await again.verbs.cancelMigration("v1");
      assert.equal(findMove(database, "v1"), undefined);
      assert.deepEqual(readdirSync(join(root, "volume-drivers/tmpfs")), []);
      assert.ok(drivers);
    }));

  test("killed after the switch: start-up starts what was stopped and removes the old data", () =>
    given(async ({ root, database, reopen }) => {
      const stuck = await reopen((driver) =>
        driver.name === "local"
          ? withChange(plain(driver), { remove: () => Promise.reject(new Error("killed")) })
          : driver,
      );
      const before = pictureOf(await filled(stuck, "v1"));
      const report = await stuck.verbs.migrate("v1", tmpfs);
      assert.equal(report.oldDataLeft, "killed");
      assert.equal(findMove(database, "v1")?.state, "moved");
      await database.transact([
        putMove({ volume: "v1", driver: "local", options: {}, state: "moved", stopped: ["c1"] }),
      ]);
      const started: string[] = [];
      const again = await reopen(plain, { ...noUsers, start: async (ids) => void started.push(...ids) });
      await again.verbs.recover();
      assert.deepEqual(started, ["c1"]);
      assert.ok(!existsSync(join(root, "volumes/v1")));
      assert.equal(findMove(database, "v1"), undefined);
      assert.deepEqual(await contentOf(again, "v1"), before);
    }));

  test("a volume that is removed in the middle takes the half copy with it", () =>
    given(async ({ root, database, reopen }) => {
      const { store } = await reopen(plain);
      await filled({ store }, "v1");
      await database.transact([putMove({ volume: "v1", ...tmpfs, state: "copying", stopped: [] })]);
      await store.remove("v1", { force: false });
      assert.equal(findMove(database, "v1"), undefined);
      assert.deepEqual(readdirSync(join(root, "volume-drivers/tmpfs")), []);
    }));
});
