import assert from "node:assert/strict";
import { mkdirSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { mountAll, unmountAll } from "../../host/mount.ts";
import { createPool } from "../../host/worker-pool.ts";
import { scratchHome } from "../scratch-home.ts";
import { vfs } from "./driver.ts";

test("a limited writable is a filesystem whose root is the tree; an image that does not fit is refused, and nothing stays", async () => {
  await using scratch = await scratchHome();
  await using pool = createPool({ size: 1 });
  const home = join(scratch.path, "home");
  const driver = await vfs.open(home, { size: "8m" }, { pool });
  const { mounts } = await driver.stage({ id: "one", parents: [] });
  const target = join(scratch.path, "view");
  mkdirSync(target);
  mountAll(mounts, target);
  writeFileSync(join(target, "file"), Buffer.alloc(5 << 20, "x"));
  unmountAll(target);
  await driver.commit({ id: "one", parents: [] });
  const top = { id: "top", parents: ["one"] };
  await driver.createWritable(top, {});
  assert.equal(statSync(join(home, "dir/top")).isFile(), true);
  mountAll(await driver.mounts(top, "writable"), target);
  assert.deepEqual(readdirSync(target), ["file"]);
  unmountAll(target);
  await assert.rejects(driver.createWritable({ id: "small", parents: ["one"] }, { size: "4m" }), {
    code: "invalid_argument",
    message: "the container's image does not fit into a size of 4.194MB",
  });
  assert.deepEqual([...(await driver.list())].toSorted(), ["one", "top"]);
  await assert.rejects(vfs.open(home, { size: "much" }, { pool }), { code: "invalid_argument" });
  await assert.rejects(vfs.open(home, { speed: "1" }, { pool }), /vfs: unknown option speed/);
});
