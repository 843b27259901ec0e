import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { succeed } from "../../../test/support/engine.ts";
import { setReadOnly } from "../../host/btrfs.ts";
import { makeSubvolumeTask } from "../../host/subvolume-task.ts";
import { createPool } from "../../host/worker-pool.ts";
import { loopHome } from "../scratch-home.ts";
import { btrfs } from "./driver.ts";

test("subvolumes that a container made in its root go with it", async () => {
  await using loop = await loopHome("btrfs");
  await using pool = createPool({ size: 1 });
  const home = join(loop.path, "btrfs");
  const driver = await btrfs.open(home, {}, { pool });
  await driver.createWritable({ id: "top", parents: [] }, {});
  const root = join(home, "subvolumes/top");
  mkdirSync(join(root, "var/lib"), { recursive: true });
  makeSubvolumeTask({ path: join(root, "var/lib/nested") });
  makeSubvolumeTask({ path: join(root, "var/lib/nested/inner") });
  writeFileSync(join(root, "var/lib/nested/inner/file"), "x");
  setReadOnly(join(root, "var/lib/nested/inner"), true);
  await driver.remove("top");
  assert.equal(await driver.sweep(), 1);
  assert.equal(existsSync(root), false);
  assert.equal(await driver.sweep(), 0);
});

test("what a trial left that a power cut ended is deleted, and what no call can delete keeps nothing else in the trash", async () => {
  await using loop = await loopHome("btrfs");
  await using pool = createPool({ size: 1 });
  const home = join(loop.path, "btrfs");
  mkdirSync(join(home, ".trial-a1B2c3/trash"), { recursive: true });
  makeSubvolumeTask({ path: join(home, ".trial-a1B2c3/trash/subvolume") });
  const driver = await btrfs.open(home, {}, { pool });
  const trash = join(home, "trash");
  assert.equal(readdirSync(trash).length, 1);
  writeFileSync(join(trash, "a file"), "x");
  symlinkSync("/nowhere", join(trash, "a link"));
  // What is read-only does not go; names before it and after it do.
  makeSubvolumeTask({ path: join(trash, "m") });
  mkdirSync(join(trash, "m/d"));
  makeSubvolumeTask({ path: join(trash, "m/d/inner") });
  setReadOnly(join(trash, "m"), true);
  for (const name of ["a", "z"]) makeSubvolumeTask({ path: join(trash, name) });
  await assert.rejects(driver.sweep());
  assert.deepEqual(readdirSync(trash), ["m"]);
  setReadOnly(join(trash, "m"), false);
  await driver.sweep();
  assert.deepEqual(readdirSync(trash), []);
  assert.equal(await succeed("btrfs", ["subvolume", "list", loop.path]), "");
});

test("a home on another filesystem is no place for it, and the probe names that", async () => {
  await using loop = await loopHome("xfs");
  assert.match((await btrfs.probe(join(loop.path, "btrfs"))) ?? "", /is on xfs; the btrfs driver needs/);
  assert.equal(existsSync(join(loop.path, "btrfs")), false);
});
