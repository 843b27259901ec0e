/** Cases of the conformance suite about volumes that change: another name, other options, a limit of size. */
import assert from "node:assert/strict";
import { closeSync, fsyncSync, openSync, rmSync, statSync, writeSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { isError, systemCode } from "../base/errors.ts";
import { fillHard, inVolume, picture, type VolumeCase } from "./conformance-bench.ts";
import type { VolumeDriver, VolumeSpec } from "./driver.ts";

const conflict = { code: "conflict" };
const notFound = { code: "not_found" };
const mebibyte = 1 << 20;

const textOf = (driver: VolumeDriver, spec: VolumeSpec): Promise<string> =>
  inVolume(driver, spec, (path) => readFile(join(path, "f"), "utf8"));

/** For drivers with `rename`. */
export const renameCases: readonly VolumeCase[] = [
  [
    "a renamed volume has all that it had, and its old name is free",
    async ({ driver, reopen, another }, spec) => {
      const old = spec("one");
      const two = { ...old, name: "two" };
      await driver.create(old);
      await inVolume(driver, old, (path) => writeFile(join(path, "f"), "kept"));
      await driver.snapshots?.create(old, "moment");
      await driver.rename?.(old, "two");
      assert.deepEqual(await driver.list(), ["two"]);
      await assert.rejects(driver.describe(old), notFound);
      assert.equal(await textOf(driver, two), "kept");
      const one = another("one");
      await driver.create(one);
      await inVolume(driver, one, (path) => writeFile(join(path, "f"), "another"));
      const again = await reopen();
      assert.deepEqual((await again.list()).toSorted(), ["one", "two"]);
      assert.equal(await textOf(again, two), "kept");
      if (again.snapshots !== undefined) {
        assert.deepEqual(await again.snapshots.list(one), []);
        await again.snapshots.restore(two, "moment");
        assert.equal(await textOf(again, two), "kept");
      }
      await again.remove(one);
      assert.equal(await textOf(again, two), "kept");
    },
  ],
  [
    "rename is refused while the volume is used, to a name that is taken, to what is no name, and of what is not there",
    async ({ driver }, spec) => {
      await driver.create(spec("one"));
      await driver.create(spec("two"));
      await driver.mount(spec("one"), "a");
      await assert.rejects(async () => driver.rename?.(spec("one"), "three"), conflict);
      await driver.unmount(spec("one"), "a");
      await assert.rejects(async () => driver.rename?.(spec("one"), "two"), conflict);
      await assert.rejects(async () => driver.rename?.(spec("one"), "../x"), { code: "invalid_argument" });
      await assert.rejects(async () => driver.rename?.(spec("three"), "four"), notFound);
      assert.deepEqual((await driver.list()).toSorted(), ["one", "two"]);
    },
  ],
];

/** For drivers with `update`. */
export const updateCases: readonly VolumeCase[] = [
  [
    "update refuses options that nobody knows, and a volume that is not there",
    async ({ driver }, spec) => {
      await driver.create(spec("one"));
      const bad = { ...spec("one").options, "no-such-option": "1" };
      await assert.rejects(async () => driver.update?.(spec("one"), bad), { code: "invalid_argument" });
      await assert.rejects(async () => driver.update?.(spec("two"), spec("two").options), notFound);
      await inVolume(driver, spec("one"), (path) => writeFile(join(path, "f"), "usable"));
    },
  ],
];

/** Writes mebibytes to a new file; the code of what failed, or undefined. */
function write(path: string, mebibytes: number): string | undefined {
  const file = openSync(path, "w");
  try {
    for (let written = 0; written < mebibytes; written++) writeSync(file, Buffer.alloc(mebibyte, "x"));
    fsyncSync(file);
    return undefined;
  } catch (error) {
    return systemCode(error);
  } finally {
    closeSync(file);
  }
}

async function isFull(driver: VolumeDriver, spec: VolumeSpec, limit: number): Promise<void> {
  await inVolume(driver, spec, (path) => {
    assert.equal(write(join(path, "half"), limit / 2), undefined);
    assert.match(write(join(path, "more"), 2 * limit) ?? "nothing failed", /^(EDQUOT|ENOSPC)$/);
    assert.equal(statSync(join(path, "half")).size, (limit / 2) * mebibyte);
    for (const name of ["half", "more"]) rmSync(join(path, name));
  });
}

const limit = 16;
const sized = (mebibytes: number) => ({ size: `${mebibytes}m` });

/** For drivers whose trait `sized` promises a limit. */
export const sizeCases: readonly VolumeCase[] = [
  [
    "size: half of it can be written, more cannot; other volumes notice nothing",
    async ({ driver, reopen }, spec) => {
      const [one, free] = [spec("one", sized(limit)), spec("free")];
      await driver.create(one);
      await driver.create(free);
      await isFull(driver, one, limit);
      await inVolume(driver, free, (path) => assert.equal(write(join(path, "all"), 2 * limit), undefined));
      await inVolume(driver, one, (path) => writeFile(join(path, "f"), "kept"));
      const again = await reopen();
      await inVolume(again, one, async (path) => assert.equal(await readFile(join(path, "f"), "utf8"), "kept"));
      await isFull(again, one, limit);
    },
  ],
  [
    "size: a volume of the same name that is made again has it too (moby 43891)",
    async ({ driver }, spec) => {
      for (let round = 0; round < 2; round++) {
        await driver.create(spec("one", sized(limit)));
        await isFull(driver, spec("one", sized(limit)), limit);
        await driver.remove(spec("one", sized(limit)));
      }
      await driver.create(spec("one"));
      await inVolume(driver, spec("one"), (path) => assert.equal(write(join(path, "all"), 2 * limit), undefined));
    },
  ],
  [
    "size: it grows, while the volume is used or not at all then, and holds there; what is held does not fit less",
    async ({ driver }, spec) => {
      const [small, large] = [spec("one", sized(limit)), spec("one", sized(3 * limit))];
      await driver.create(small);
      await writeFile(join(await driver.mount(small, "a"), "f"), "kept");
      await driver.update?.(small, large.options).catch(async (error: unknown) => {
        // Where the kernel does not let it grow in use.
        if (!isError(error, "conflict")) throw error;
        await driver.unmount(small, "a");
        await driver.update?.(small, large.options);
      });
      const path = await driver.mount(large, "a");
      assert.equal(write(join(path, "kept"), 2 * limit), undefined);
      assert.match(write(join(path, "more"), 2 * limit) ?? "nothing failed", /^(EDQUOT|ENOSPC)$/);
      rmSync(join(path, "more"));
      await driver.unmount(small, "a");
      await assert.rejects(async () => driver.update?.(large, small.options), conflict);
      rmSync(join(await driver.mount(large, "a"), "kept"));
      await driver.unmount(large, "a");
      await driver.update?.(large, small.options);
      await isFull(driver, small, limit);
      assert.equal(await inVolume(driver, small, (now) => readFile(join(now, "f"), "utf8")), "kept");
    },
  ],
  [
    "size: a limit can be given to a volume that has none, and taken away; the tree stays",
    async ({ driver }, spec) => {
      const [free, small] = [spec("one"), spec("one", sized(limit))];
      await driver.create(free);
      await inVolume(driver, free, fillHard);
      const tree = await picture(driver, free);
      await driver.update?.(free, small.options);
      assert.deepEqual(await picture(driver, small), tree);
      await isFull(driver, small, limit);
      await driver.update?.(small, free.options);
      assert.equal((await picture(driver, free)).length, tree.length);
      await inVolume(driver, free, (path) => assert.equal(write(join(path, "all"), 2 * limit), undefined));
    },
  ],
  [
    "size: snapshots and clones keep the limit, and one that is restored",
    async ({ driver }, spec) => {
      if (driver.snapshots === undefined) return;
      const [one, two] = [spec("one", sized(limit)), spec("two", sized(limit))];
      await driver.create(one);
      await inVolume(driver, one, fillHard);
      const tree = await picture(driver, one);
      await driver.snapshots.create(one, "moment");
      await driver.snapshots.clone({ spec: one, snapshot: "moment" }, two);
      await driver.snapshots.restore(one, "moment");
      for (const each of [one, two]) {
        assert.deepEqual(await picture(driver, each), tree);
        await isFull(driver, each, limit);
      }
      await driver.snapshots.clone({ spec: one, snapshot: "moment" }, spec("free"));
      await inVolume(driver, spec("free"), (path) => assert.equal(write(join(path, "all"), 2 * limit), undefined));
    },
  ],
  [
    "size: what is no size is refused, and nothing stays",
    async ({ driver }, spec) => {
      for (const size of ["much", "-1", "1x", "10 20"]) {
        await assert.rejects(driver.create(spec("one", { size })), { code: "invalid_argument" });
        assert.deepEqual(await driver.list(), []);
      }
    },
  ],
];
