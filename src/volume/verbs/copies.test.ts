/** Clones and snapshots that the store makes by copying: exact, whole or not at all, also after a crash. */
import assert from "node:assert/strict";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { changeTree, randomOf } from "../../archive/random-changes.fixture.ts";
import { pictureOf } from "../../host/tree-picture.ts";
import { beginRestore, insertCopy, listCopies } from "../verb-records.ts";
import { type Given, given, plain } from "./verbs.fixture.ts";

const skip = process.getuid?.() === 0 ? false : "trees have owners";
const seed = Number(process.env.STRATA_SEED ?? Date.now() % 1_000_000);

/** A volume with a random tree. */
async function filled({ store }: Pick<Given, "store">, name: string, changes = 40): Promise<string> {
  const { mountpoint } = await store.create({ name });
  changeTree(mountpoint, randomOf(seed), changes);
  return mountpoint;
}

const copied = (root: string): readonly string[] => {
  try {
    return readdirSync(join(root, "volume-snapshots"));
  } catch {
    return [];
  }
};

describe("a clone", { skip }, () => {
  test("by copying is the same tree, on the same driver and on another one, and its source goes on by itself", () =>
    given(async ({ reopen }) => {
      const { store, verbs } = await reopen(plain);
      const source = await filled({ store }, "v1");
      const { volume, report } = await verbs.clone({ name: "v1" }, { name: "v2", labels: { a: "b" } });
      assert.deepEqual(pictureOf(volume.mountpoint), pictureOf(source), `STRATA_SEED=${seed}`);
      assert.deepEqual(
        [report.cost, report.byStore, report.consistent, volume.labels],
        ["copy", true, true, { a: "b" }],
      );
      const other = await verbs.clone({ name: "v1" }, { name: "v3", driver: "tmpfs", options: { size: "100m" } });
      assert.equal(other.volume.driver, "tmpfs");
      const path = await store.mount("v3", "look");
      assert.deepEqual(pictureOf(path), pictureOf(source));
      await store.unmount("v3", "look");
      writeFileSync(join(source, "later"), "");
      assert.ok(!readdirSync(volume.mountpoint).includes("later"));
      for (const name of ["v1", "v2", "v3"]) await store.remove(name, { force: false });
    }));

  test("of a name that is taken, of nothing, onto too little space, or aborted: refused, and nothing is left", () =>
    given(async ({ root, reopen }) => {
      const { store, verbs } = await reopen(plain);
      const source = await filled({ store }, "v1");
      writeFileSync(join(source, "big"), Buffer.alloc(3_000_000, 1));
      await store.create({ name: "v2" });
      await assert.rejects(verbs.clone({ name: "v1" }, { name: "v2" }), { code: "conflict" });
      await assert.rejects(verbs.clone({ name: "none" }, { name: "v3" }), { code: "not_found" });
      await assert.rejects(verbs.clone({ name: "v1", snapshot: "none" }, { name: "v3" }), { code: "not_found" });
      await assert.rejects(verbs.clone({ name: "v1" }, { name: "v3", driver: "none" }), { code: "not_found" });
      await assert.rejects(verbs.clone({ name: "v1" }, { name: "../v3" }), { code: "invalid_argument" });
      const small = { name: "v3", driver: "tmpfs", options: { size: "1m" } };
      await assert.rejects(verbs.clone({ name: "v1" }, small), { code: "no_space" });
      const signal = AbortSignal.abort(new Error("enough"));
      await assert.rejects(verbs.clone({ name: "v1" }, { name: "v3" }, { signal }), /enough/);
      assert.deepEqual(
        (await store.list()).volumes.map(({ name }) => name),
        ["v1", "v2"],
      );
      assert.deepEqual(readdirSync(join(root, "volumes")).sort(), ["v1", "v2"]);
    }));

  test("whose options name storage that has data, or the very same, is refused and touches nothing", () =>
    given(async ({ root, reopen }) => {
      const { store, verbs } = await reopen(plain);
      const host = join(root, "host");
      mkdirSync(host);
      writeFileSync(join(host, "f"), "kept");
      const options = { type: "none", device: host, o: "bind" };
      await store.create({ name: "v1", options });
      await assert.rejects(verbs.clone({ name: "v1" }, { name: "v2" }), /the same storage/);
      await store.create({ name: "v3" });
      await assert.rejects(verbs.clone({ name: "v3" }, { name: "v2", options }), /not empty/);
      assert.equal(readFileSync(join(host, "f"), "utf8"), "kept");
      assert.deepEqual((await verbs.clone({ name: "v1" }, { name: "v2", options: {} })).volume.options, {});
    }));
});

describe("a snapshot that the store keeps", { skip }, () => {
  test("is what the volume was, is listed, cloned, restored exactly, and removed", () =>
    given(async ({ root, reopen }) => {
      const { store, verbs } = await reopen(plain);
      const source = await filled({ store }, "v1");
      const first = pictureOf(source);
      const { snapshot } = await verbs.createSnapshot("v1", "first");
      assert.deepEqual([snapshot.name, snapshot.keptBy], ["first", "store"]);
      await assert.rejects(verbs.createSnapshot("v1", "first"), { code: "conflict" });
      for (const bad of ["../x", ".x", "", "a/b", "x"])
        await assert.rejects(verbs.createSnapshot("v1", bad), { code: "invalid_argument" });
      changeTree(source, randomOf(seed + 1), 20);
      const second = pictureOf(source);
      const { snapshot: timed } = await verbs.createSnapshot("v1");
      assert.deepEqual(
        (await verbs.listSnapshots("v1")).map(({ name }) => name),
        ["first", timed.name],
      );
      await verbs.restoreSnapshot("v1", "first");
      assert.deepEqual(pictureOf(source), first, `STRATA_SEED=${seed}`);
      const { volume } = await verbs.clone({ name: "v1", snapshot: timed.name }, { name: "v2" });
      assert.deepEqual(pictureOf(volume.mountpoint), second);
      await verbs.removeSnapshot("v1", "first");
      await assert.rejects(verbs.removeSnapshot("v1", "first"), { code: "not_found" });
      await assert.rejects(verbs.restoreSnapshot("v1", "first"), { code: "not_found" });
      await assert.rejects(store.remove("v1", { force: true }), { code: "conflict", message: /has snapshots/ });
      assert.deepEqual((await store.prune(new Map([["all", ["true"]]]))).removed, ["v2"]);
      await store.remove("v1", { force: true, snapshots: true });
      assert.deepEqual(copied(root), []);
    }));

  test("is refused to be restored while it is mounted", () =>
    given(async ({ reopen }) => {
      const { store, verbs } = await reopen(plain);
      await filled({ store }, "v1");
      await verbs.createSnapshot("v1", "first");
      await store.mount("v1", "somebody");
      await assert.rejects(verbs.restoreSnapshot("v1", "first"), { code: "conflict" });
      await store.unmount("v1", "somebody");
      await verbs.restoreSnapshot("v1", "first");
    }));

  test("half-made by a crash is gone after it, with and without its row; a whole one stays", () =>
    given(async ({ root, database, reopen }) => {
      const { store, verbs } = await reopen(plain);
      await filled({ store }, "v1");
      await verbs.createSnapshot("v1", "whole");
      for (const id of ["half", "unknown", ".gone-x"])
        mkdirSync(join(root, "volume-snapshots", id, "data"), { recursive: true });
      const row = { volume: "v1", name: "half", id: "half", createdAt: "", bytes: 0 };
      await database.transact([insertCopy({ ...row, state: "creating" })]);
      const again = await reopen(plain);
      assert.deepEqual(
        (await again.verbs.listSnapshots("v1")).map(({ name }) => name),
        ["whole"],
      );
      assert.deepEqual(copied(root), [listCopies(database)[0]?.id]);
    }));

  test("whose restore a crash interrupted is restored before anybody sees the volume", () =>
    given(async ({ database, reopen }) => {
      const { store, verbs } = await reopen(plain);
      const source = await filled({ store }, "v1");
      const before = pictureOf(source);
      await verbs.createSnapshot("v1", "first");
      await database.transact([beginRestore("v1", listCopies(database)[0]?.id ?? "")]);
      for (const name of readdirSync(source).slice(0, 2)) rmSync(join(source, name), { recursive: true });
      const again = await reopen(plain);
      assert.deepEqual(pictureOf(await again.store.mount("v1", "container")), before);
      await again.store.unmount("v1", "container");
    }));

  test("that does not fit is not seen half restored; another one, or the volume's end, is the way out", () =>
    given(async ({ root, database, reopen }) => {
      const { store, verbs } = await reopen(plain);
      await store.create({ name: "t1", driver: "tmpfs", options: { size: "4m" } });
      const path = await store.mount("t1", "fill");
      writeFileSync(join(path, "f"), "small");
      await verbs.createSnapshot("t1", "small");
      writeFileSync(join(path, "f"), Buffer.alloc(3_000_000, 1));
      await verbs.createSnapshot("t1", "large");
      await store.unmount("t1", "fill");
      const large = listCopies(database).find(({ name }) => name === "large");
      writeFileSync(join(root, "volume-snapshots", large?.id ?? "", "data/more"), Buffer.alloc(3_000_000, 1));
      await assert.rejects(verbs.restoreSnapshot("t1", "large"), { code: "no_space", message: /half restored/ });
      await assert.rejects(store.mount("t1", "c1"), { code: "no_space" });
      await assert.rejects(verbs.removeSnapshot("t1", "large"), { code: "conflict" });
      await verbs.restoreSnapshot("t1", "small");
      assert.equal(readFileSync(join(await store.mount("t1", "c1"), "f"), "utf8"), "small");
      await store.unmount("t1", "c1");
      rmSync(join(root, "volume-snapshots", large?.id ?? ""), { recursive: true });
      await assert.rejects(verbs.restoreSnapshot("t1", "large"), { code: "data_loss" });
      await store.mount("t1", "c1");
      await store.unmount("t1", "c1");
      await store.remove("t1", { force: true, snapshots: true });
      assert.deepEqual(copied(root), []);
    }));

  test("two commands on one volume: what changes it goes alone, what reads it goes together", () =>
    given(async ({ reopen }) => {
      const { store, verbs } = await reopen(plain);
      const source = await filled({ store }, "v1");
      writeFileSync(join(source, "big"), Buffer.alloc(5_000_000, 1));
      const clones = Promise.all([
        verbs.clone({ name: "v1" }, { name: "v2" }),
        verbs.clone({ name: "v1" }, { name: "v3" }),
      ]);
      await assert.rejects(verbs.createSnapshot("v1", "first"), {
        code: "conflict",
        message: /another command \(clone\)/,
      });
      await assert.rejects(store.remove("v1", { force: true }), { code: "conflict" });
      await clones;
      await verbs.createSnapshot("v1", "first");
    }));
});
