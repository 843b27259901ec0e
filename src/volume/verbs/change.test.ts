/** Rename, update and resize: what is refused, what is kept, and a rename that a crash interrupted on either side. */
import assert from "node:assert/strict";
import { existsSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { noUsers, type VolumeUsers } from "../users.ts";
import { beginRename, pendingRenames } from "../verb-records.ts";
import { given, plain, withChange } from "./verbs.fixture.ts";

const skip = process.getuid?.() === 0 ? false : "volumes need root";
const used = (status: string): VolumeUsers => ({
  ...noUsers,
  of: () => [{ id: "c1", name: "one", status, mounts: [], goesWithItsEnd: false }],
});

describe("rename", { skip }, () => {
  test("keeps content, labels, options, snapshots and the last use; the old name is free", () =>
    given(async ({ root, reopen }) => {
      const { store, verbs } = await reopen(plain);
      const { mountpoint } = await store.create({ name: "old", labels: { a: "b" } });
      writeFileSync(join(mountpoint, "f"), "kept");
      await store.settle();
      await store.mount("old", "c1");
      await store.unmount("old", "c1");
      await verbs.createSnapshot("old", "first");
      const { usedAt } = await verbs.who("old");
      assert.ok(usedAt !== undefined);
      const renamed = await verbs.rename("old", "new");
      assert.deepEqual([renamed.name, renamed.labels], ["new", { a: "b" }]);
      assert.equal(renamed.mountpoint, join(root, "volumes/new/_data"));
      assert.ok(existsSync(join(renamed.mountpoint, "f")));
      assert.deepEqual(
        (await verbs.listSnapshots("new")).map(({ name }) => name),
        ["first"],
      );
      assert.equal((await verbs.who("new")).usedAt, usedAt);
      assert.deepEqual(
        (await (await reopen(plain)).store.list()).volumes.map(({ name }) => name),
        ["new"],
      );
      assert.equal((await store.create({ name: "old" })).created, true);
    }));

  test("is refused for names that are taken or none, for what containers refer to, and where the driver cannot", () =>
    given(async ({ reopen }) => {
      const { store, verbs } = await reopen();
      for (const name of ["v1", "v2"]) await store.create({ name });
      await store.create({ name: "t1", driver: "tmpfs" });
      for (const [from, to, code] of [
        ["v1", "v2", "conflict"],
        ["v1", "v1", "invalid_argument"],
        ["v1", "../x", "invalid_argument"],
        ["v1", "", "invalid_argument"],
        ["none", "x1", "not_found"],
      ] as const)
        await assert.rejects(verbs.rename(from, to), { code }, `${from} ${to}`);
      const cannot = await reopen((driver) => withChange(driver, { rename: undefined as never }));
      await assert.rejects(cannot.verbs.rename("v1", "x1"), {
        code: "unsupported",
        message: /strata volume clone v1 x1/,
      });
      const other = await reopen(undefined, used("exited"));
      await assert.rejects(other.verbs.rename("v1", "x1"), { code: "conflict", message: /by that name: one/ });
    }));

  for (const [what, done] of [
    ["before the driver had begun", false],
    ["after the driver had done it", true],
  ] as const)
    test(`that was killed ${what} is one name or the other, with its labels`, () =>
      given(async ({ root, database, reopen }) => {
        const { store } = await reopen();
        await store.create({ name: "old", labels: { a: "b" } });
        await database.transact([beginRename("old", "new")]);
        if (done) renameSync(join(root, "volumes/old"), join(root, "volumes/new"));
        const again = await reopen();
        const all = (await again.store.list()).volumes;
        assert.deepEqual(
          all.map(({ name, labels }) => [name, labels]),
          [[done ? "new" : "old", { a: "b" }]],
        );
        assert.equal(pendingRenames(database).size, 0);
        assert.equal(all[0]?.mountpoint, join(root, "volumes", done ? "new" : "old", "_data"));
      }));
});

describe("update and resize", { skip }, () => {
  const options = { type: "tmpfs", device: "tmpfs", o: "size=1m" };

  test("options are added, replaced and taken away, checked by the driver, and in force at the next mount", () =>
    given(async ({ reopen }) => {
      const { store, verbs } = await reopen();
      await store.create({ name: "v1", options });
      assert.deepEqual((await verbs.update("v1", { o: "size=2m" })).options, { ...options, o: "size=2m" });
      const path = await store.mount("v1", "c1");
      writeFileSync(join(path, "f"), Buffer.alloc(1_500_000));
      await assert.rejects(verbs.update("v1", { o: "size=3m" }), { code: "conflict", message: /mounted/ });
      await store.unmount("v1", "c1");
      assert.deepEqual((await verbs.update("v1", { o: "" })).options, { type: "tmpfs", device: "tmpfs" });
      assert.deepEqual((await (await reopen()).store.get("v1")).options, { type: "tmpfs", device: "tmpfs" });
      for (const bad of [{ bogus: "1" }, { device: "" }, {}])
        await assert.rejects(verbs.update("v1", bad), { code: "invalid_argument" }, JSON.stringify(bad));
      await assert.rejects(verbs.update("none", { o: "x" }), { code: "not_found" });
      assert.deepEqual((await store.get("v1")).options, { type: "tmpfs", device: "tmpfs" });
    }));

  test("who runs with the volume is named, and keeps the options as they are", () =>
    given(async ({ reopen }) => {
      const { store, verbs } = await reopen(undefined, used("running"));
      await store.create({ name: "v1", options });
      await assert.rejects(verbs.update("v1", { o: "size=2m" }), { code: "conflict", message: /one runs with it/ });
      assert.deepEqual((await store.get("v1")).options, options);
    }));

  test("a size below what the volume holds is refused, and so is one where no driver keeps it", () =>
    given(async ({ reopen }) => {
      const told: object[] = [];
      const { store, verbs } = await reopen((driver) =>
        withChange(driver, {
          traits: { ...driver.traits, sized: driver.name === "local" },
          validate: () => undefined,
          update: async (_, wanted) => void told.push(wanted),
        }),
      );
      const { mountpoint } = await store.create({ name: "v1" });
      writeFileSync(join(mountpoint, "f"), Buffer.alloc(2_000_000, 1));
      await assert.rejects(verbs.resize("v1", "1m"), { code: "conflict", message: /too small/ });
      for (const bad of ["", "0", "much", "-1"])
        await assert.rejects(verbs.resize("v1", bad), { code: "invalid_argument" });
      assert.deepEqual((await verbs.resize("v1", "5m")).options, { size: "5m" });
      assert.deepEqual(told, [{ size: "5m" }]);
      await store.create({ name: "t1", driver: "tmpfs" });
      await assert.rejects(verbs.resize("t1", "5m"), { code: "unsupported" });
    }));
});

describe("du", { skip }, () => {
  test("counts what is there; one that cannot be mounted says why, and one that hangs is left alone in time", () =>
    given(async ({ reopen }) => {
      const { store, verbs } = await reopen();
      const { mountpoint } = await store.create({ name: "v1" });
      writeFileSync(join(mountpoint, "f"), "12345");
      const { bytes, inodes } = await verbs.size("v1");
      assert.deepEqual([bytes, inodes], [5, 2]);
      await store.create({ name: "v2", options: { type: "none", device: "/nonexistent", o: "bind" } });
      assert.match((await verbs.size("v2")).reason ?? "", /no such file/);
      await assert.rejects(verbs.size("none"), { code: "not_found" });
      const hung = await reopen((driver) => withChange(driver, { mount: () => new Promise<never>(() => undefined) }));
      assert.match((await hung.verbs.size("v1", { deadline: 50 })).reason ?? "", /did not answer within 0.05 s/);
    }));
});
