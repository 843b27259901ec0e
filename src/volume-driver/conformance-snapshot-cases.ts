/** Cases of the conformance suite about snapshots and clones, for drivers that keep them. */
import assert from "node:assert/strict";
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fillHard, inVolume, picture, type VolumeCase } from "./conformance-bench.ts";
import type { VolumeDriver, VolumeSnapshots, VolumeSpec } from "./driver.ts";

const conflict = { code: "conflict" };
const notFound = { code: "not_found" };
const invalid = { code: "invalid_argument" };

function kept({ snapshots }: VolumeDriver): VolumeSnapshots {
  assert.ok(snapshots !== undefined);
  return snapshots;
}

const names = async (driver: VolumeDriver, spec: VolumeSpec): Promise<string[]> =>
  (await kept(driver).list(spec)).map(({ name }) => name);

const put = (driver: VolumeDriver, spec: VolumeSpec, text: string): Promise<void> =>
  inVolume(driver, spec, (path) => writeFile(join(path, "f"), text));

export const snapshotCases: readonly VolumeCase[] = [
  [
    "snapshots keep everything about a tree, and the volume becomes them again, older or newer",
    async ({ driver, reopen }, spec) => {
      const one = spec("one");
      await driver.create(one);
      assert.match(await kept(driver).cost(one), /^(constant|reflink|copy)$/);
      assert.deepEqual(await kept(driver).list(one), []);
      await inVolume(driver, one, fillHard);
      const first = await picture(driver, one);
      await kept(driver).create(one, "first");
      await inVolume(driver, one, async (path) => {
        await rm(join(path, "folder"), { recursive: true });
        await writeFile(join(path, "holes"), "changed");
        await writeFile(join(path, "new"), "new");
      });
      const second = await picture(driver, one);
      await kept(driver).create(one, "second");
      await put(driver, one, "third");
      assert.deepEqual(await names(driver, one), ["first", "second"]);
      for (const [snapshot, tree] of [
        ["first", first],
        ["second", second],
        ["first", first],
      ] as const) {
        await kept(driver).restore(one, snapshot);
        assert.deepEqual(await picture(driver, one), tree);
      }
      const again = await reopen();
      assert.deepEqual(await names(again, one), ["first", "second"]);
      assert.deepEqual(await picture(again, one), first);
      await kept(again).restore(one, "second");
      assert.deepEqual(await picture(again, one), second);
      for (const { createdAt } of await kept(again).list(one)) assert.ok(Date.parse(createdAt) > 1.7e12, createdAt);
    },
  ],
  [
    "a snapshot does not change with its volume, is made while it is used, and is restored only while it is not",
    async ({ driver }, spec) => {
      const one = spec("one");
      await driver.create(one);
      await put(driver, one, "then");
      const path = await driver.mount(one, "container");
      await kept(driver).create(one, "then");
      await writeFile(join(path, "f"), "now");
      await assert.rejects(kept(driver).restore(one, "then"), conflict);
      await driver.unmount(one, "container");
      const now = await picture(driver, one);
      await kept(driver).create(one, "now");
      await kept(driver).restore(one, "then");
      await put(driver, one, "changed after");
      await kept(driver).restore(one, "now");
      assert.deepEqual(await picture(driver, one), now);
    },
  ],
  [
    "names of snapshots: one of each in a volume, unknown ones are not found, hostile ones are refused",
    async ({ driver }, spec) => {
      const [one, two] = [spec("one"), spec("two")];
      await driver.create(one);
      await driver.create(two);
      await kept(driver).create(one, "same");
      await kept(driver).create(two, "same");
      await assert.rejects(kept(driver).create(one, "same"), conflict);
      for (const hostile of ["..", "../one", "a/b", "", "-r", "a b", "a\0b", "@x", "x@y", ".hidden", "x".repeat(300)]) {
        for (const verb of ["create", "remove", "restore"] as const)
          await assert.rejects(kept(driver)[verb](one, hostile), invalid);
        await assert.rejects(kept(driver).clone({ spec: one, snapshot: hostile }, spec("three")), invalid);
      }
      await assert.rejects(kept(driver).remove(one, "other"), notFound);
      await assert.rejects(kept(driver).restore(one, "other"), notFound);
      await assert.rejects(kept(driver).clone({ spec: one, snapshot: "other" }, spec("three")), notFound);
      await assert.rejects(kept(driver).create(spec("never"), "same"), notFound);
      assert.deepEqual((await driver.list()).toSorted(), ["one", "two"]);
      assert.deepEqual(await names(driver, one), ["same"]);
    },
  ],
  [
    "a removed snapshot is gone, its name is free, and the others and the volume are as they were",
    async ({ driver }, spec) => {
      const one = spec("one");
      await driver.create(one);
      for (const text of ["first", "second", "third"]) {
        await put(driver, one, text);
        await kept(driver).create(one, text);
      }
      const third = await picture(driver, one);
      await kept(driver).restore(one, "second");
      const second = await picture(driver, one);
      await kept(driver).remove(one, "second");
      assert.deepEqual(await names(driver, one), ["first", "third"]);
      assert.deepEqual(await picture(driver, one), second);
      await kept(driver).restore(one, "third");
      assert.deepEqual(await picture(driver, one), third);
      await kept(driver).create(one, "second");
      await kept(driver).remove(one, "first");
      await kept(driver).remove(one, "third");
      assert.deepEqual(await names(driver, one), ["second"]);
      assert.deepEqual(await picture(driver, one), third);
    },
  ],
  [
    "a clone has all that the volume or its snapshot has, and lives apart from it, whichever is removed first",
    async ({ driver }, spec) => {
      const [one, two, three] = [spec("one"), spec("two"), spec("three")];
      await driver.create(one);
      await inVolume(driver, one, fillHard);
      const old = await picture(driver, one);
      await kept(driver).create(one, "old");
      await put(driver, one, "newer");
      const newer = await picture(driver, one);
      await kept(driver).clone({ spec: one }, two);
      await kept(driver).clone({ spec: one, snapshot: "old" }, three);
      await put(driver, one, "changed in the original");
      assert.deepEqual(await picture(driver, two), newer);
      assert.deepEqual(await picture(driver, three), old);
      assert.deepEqual(await names(driver, two), [], "the snapshots of the original are its own");
      await kept(driver).create(three, "of-three");
      await driver.remove(one);
      assert.deepEqual(await driver.list(), ["three", "two"].toSorted());
      assert.deepEqual(await names(driver, three), ["of-three"]);
      assert.deepEqual(await picture(driver, three), old);
      await put(driver, two, "changed");
      await driver.remove(two);
      await put(driver, three, "changed");
      await kept(driver).restore(three, "of-three");
      assert.deepEqual(await picture(driver, three), old);
    },
  ],
  [
    "a clone of a clone, and a name that is taken",
    async ({ driver }, spec) => {
      const [one, two, three] = [spec("one"), spec("two"), spec("three")];
      await driver.create(one);
      await put(driver, one, "text");
      const tree = await picture(driver, one);
      await kept(driver).clone({ spec: one }, two);
      await assert.rejects(kept(driver).clone({ spec: one }, two), conflict);
      await assert.rejects(kept(driver).clone({ spec: one }, one), conflict);
      await kept(driver).create(two, "moment");
      await kept(driver).clone({ spec: two, snapshot: "moment" }, three);
      await driver.remove(two);
      await driver.remove(one);
      assert.deepEqual(await picture(driver, three), tree);
      assert.deepEqual(await driver.list(), ["three"]);
    },
  ],
  [
    "snapshots go with the volume, and a volume of the same name has none of them",
    async ({ driver }, spec) => {
      const one = spec("one");
      await driver.create(one);
      await put(driver, one, "text");
      await kept(driver).create(one, "moment");
      await driver.remove(one);
      await driver.create(one);
      assert.deepEqual(await kept(driver).list(one), []);
      await assert.rejects(kept(driver).restore(one, "moment"), notFound);
      await kept(driver).create(one, "moment");
    },
  ],
];
