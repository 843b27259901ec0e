/** What a copy of a tree costs, in blocks of real filesystems: files where they can share blocks, bytes where they cannot. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  closeSync,
  linkSync,
  mkdirSync,
  openSync,
  statfsSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { createPool } from "../../host/worker-pool.ts";
import { loopHome } from "../scratch-home.ts";
import { vfs } from "./driver.ts";

const mebibyte = 1 << 20;
const large = 64 * mebibyte;

/** A tree of 64 MiB in one file, 8 MiB in small ones, a hole and a second name. */
function fill(tree: string): void {
  writeFileSync(join(tree, "large"), Buffer.alloc(large, "x"));
  linkSync(join(tree, "large"), join(tree, "again"));
  mkdirSync(join(tree, "small"));
  for (let index = 0; index < 512; index++) writeFileSync(join(tree, `small/${index}`), Buffer.alloc(16 << 10, index));
  writeFileSync(join(tree, "hole"), "begins");
  truncateSync(join(tree, "hole"), 200 * mebibyte);
}

/** Bytes in use on the filesystem of `path`, when all is written out. */
function used(path: string): number {
  execFileSync("sync", ["-f", path]);
  const { blocks, bfree, bsize } = statfsSync(path);
  return (blocks - bfree) * bsize;
}

const isShared = (path: string): boolean =>
  /\bshared\b/.test(execFileSync("filefrag", ["-v", path], { encoding: "utf8" }));

for (const type of ["xfs", "btrfs", "ext4"] as const) {
  const shares = type !== "ext4";
  test(`on ${type} a child of a tree costs ${shares ? "its files, not their bytes" : "its bytes, and says so"}`, async () => {
    await using place = await loopHome(type);
    await using pool = createPool({ size: 1 });
    await using driver = await vfs.open(join(place.path, "vfs"), {}, { pool });
    assert.equal(driver.traits.sharesBlocks, shares);
    assert.deepEqual(await driver.status(), [
      ["Backing Filesystem", type === "ext4" ? "extfs" : type],
      ["Shares Blocks", String(shares)],
    ]);
    await driver.stage({ id: "one", parents: [] });
    fill(join(driver.home, "staging/one"));
    await driver.commit({ id: "one", parents: [] });
    const at = (id: string, name: string): string => join(driver.home, "dir", id, name);
    const before = used(place.path);
    await driver.createWritable({ id: "top", parents: ["one"] }, {});
    const cost = used(place.path) - before;
    assert.equal(statSync(at("top", "large")).size, large);
    assert.equal(isShared(at("top", "large")), shares);
    if (!shares) {
      assert.ok(cost > large, `${cost} bytes`);
      assert.ok(cost < large + 32 * mebibyte, `the second name and the hole cost nothing: ${cost} bytes`);
      return;
    }
    assert.ok(cost < 8 * mebibyte, `${cost} bytes`);
    // A change costs what it changes, and only its tree sees it.
    const file = openSync(at("top", "large"), "r+");
    writeSync(file, Buffer.alloc(mebibyte, "y"), 0, mebibyte, 8 * mebibyte);
    closeSync(file);
    assert.ok(used(place.path) - before < 16 * mebibyte);
    execFileSync("cmp", ["-s", "-n", String(8 * mebibyte), at("one", "large"), at("top", "large")]);
    assert.throws(() => execFileSync("cmp", ["-s", at("one", "large"), at("top", "large")]));
    const own = used(place.path);
    await driver.remove("one");
    await driver.sweep();
    assert.ok(own - used(place.path) < 16 * mebibyte, "the blocks stay as long as one tree has them");
  });
}
