import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { createPool } from "../../host/worker-pool.ts";
import { runConformance } from "../conformance.ts";
import { scratchHome } from "../scratch-home.ts";
import { zfs } from "./driver.ts";
import { cannotMakePool, zfsHome, zfsName } from "./zfs-pool.fixture.ts";

const skip = cannotMakePool();
/** Datasets of a home, by the property that the driver gives them. */
async function datasetsOf(home: string): Promise<readonly string[]> {
  const rows = execFileSync("zfs", ["list", "-H", "-o", "strata:home,name"], { encoding: "utf8" }).split("\n");
  return rows.filter((row) => row.startsWith(`${encodeURI(home)}\t`));
}

if (skip === false) runConformance({ name: `zfs on ${zfsName}`, factory: zfs, makeHome: zfsHome, leftOf: datasetsOf });
else test("conformance: zfs on zfs-fuse", { skip });

test("zfs.fsname names the parent of a home elsewhere; status and describe speak Docker's words", {
  skip,
}, async () => {
  await using made = await zfsHome();
  await using scratch = await scratchHome();
  await using pool = createPool({ size: 1 });
  const home = join(scratch.path, "zfs");
  const options = { "zfs.fsname": made.dataset };
  assert.equal(await zfs.probe(home, options), undefined);
  const driver = await zfs.open(home, options, { pool });
  await driver.createWritable({ id: "top", parents: [] }, {});
  assert.deepEqual(driver.describe({ id: "top", parents: [] }, "writable"), {
    Mountpoint: join(home, "graph/top"),
    Dataset: `${made.dataset}/top`,
  });
  const rows = await driver.status();
  const values = rows.map(([key, value]) => [key, /^\d+$/.test(value) && key.startsWith("Space") ? "bytes" : value]);
  assert.deepEqual(values, [
    ["Zpool", made.dataset.split("/")[0]],
    ["Zpool Health", "ONLINE"],
    ["Parent Dataset", made.dataset],
    ["Space Used By Parent", "bytes"],
    ["Space Available", "bytes"],
    ["Parent Quota", "no"],
    ["Compression", "off"],
  ]);
  await driver.remove("top");
  assert.equal(await driver.sweep(), 1);
});

test("a removed layer waits for its clone, and a place without a dataset is used again", { skip }, async () => {
  await using made = await zfsHome();
  await using pool = createPool({ size: 1 });
  const driver = await zfs.open(join(made.path, "home"), {}, { pool });
  await driver.stage({ id: "one", parents: [] });
  await driver.commit({ id: "one", parents: [] });
  await driver.createWritable({ id: "top", parents: ["one"] }, {});
  await driver.remove("one");
  assert.deepEqual(await driver.list(), ["top"]);
  assert.equal(await driver.sweep(), 0);
  await driver.remove("top");
  assert.equal(await driver.sweep(), 2);
  await mkdir(join(made.path, "home/graph/left"));
  await driver.createWritable({ id: "left", parents: [] }, {});
  await assert.rejects(driver.createWritable({ id: "left", parents: [] }, {}), { code: "conflict" });
  assert.deepEqual(await driver.list(), ["left"]);
});

test("datasets of others below the same parent are neither listed nor destroyed", { skip }, async () => {
  await using made = await zfsHome();
  await using pool = createPool({ size: 1 });
  const zfsCommand = (...args: string[]): string => execFileSync("zfs", args, { encoding: "utf8" });
  zfsCommand("create", "-o", "mountpoint=none", `${made.dataset}/precious`);
  const [first, second] = [join(made.path, "one"), join(made.path, "two with spaces")];
  const options = { "zfs.fsname": made.dataset };
  const [ours, theirs] = [await zfs.open(first, options, { pool }), await zfs.open(second, options, { pool })];
  await ours.createWritable({ id: "ours", parents: [] }, {});
  await theirs.createWritable({ id: "theirs", parents: [] }, {});
  await theirs.remove("theirs");
  assert.deepEqual(await ours.list(), ["ours"]);
  assert.equal(await ours.sweep(), 0);
  assert.deepEqual(await theirs.list(), []);
  assert.equal(await theirs.sweep(), 1);
  const left = zfsCommand("list", "-H", "-o", "name", "-r", made.dataset).trim().split("\n");
  assert.deepEqual(
    left.toSorted(),
    ["", "/ours", "/precious"].map((name) => made.dataset + name),
  );
});
