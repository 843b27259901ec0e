import assert from "node:assert/strict";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
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

test("a home on another filesystem is no place for it, and the probe names that", async () => {
  await using loop = await loopHome("xfs");
  assert.match((await btrfs.probe(join(loop.path, "btrfs"))) ?? "", /is on xfs; the btrfs driver needs/);
  assert.equal(existsSync(join(loop.path, "btrfs")), false);
});
