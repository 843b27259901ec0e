/**
 * overlay2's suite for a process that lives elsewhere: in a user namespace, on a kernel without the newer calls.
 * Started by elsewhere.test.ts; the place's own promises are tested beside the conformance suite.
 */
import assert from "node:assert/strict";
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { archiveTasks } from "../../archive/task-url.ts";
import { mountAll, unmountAll } from "../../host/mount.ts";
import { AT_FDCWD, getXattr, setXattr } from "../../host/sys.ts";
import { inUserNamespace } from "../../host/user-namespace.ts";
import { createPool } from "../../host/worker-pool.ts";
import { runConformance } from "../conformance.ts";
import { scratchHome } from "../scratch-home.ts";
import { overlay2 } from "./driver.ts";

const place = process.env.PLACE;

runConformance({ name: `overlay2, ${place}`, factory: overlay2, makeHome: scratchHome });

test("the place is what it is called", async () => {
  await using scratch = await scratchHome();
  await using pool = createPool({ size: 1 });
  await using driver = await overlay2.open(join(scratch.path, "home"), {}, { pool });
  const rows = new Map(await driver.status());
  assert.equal(inUserNamespace(), place === "in a user namespace");
  assert.equal(rows.get("userxattr"), String(inUserNamespace()));
  assert.equal(rows.get("Native Overlay Diff"), "true");
  assert.equal(driver.traits.maxParents, place === "in a user namespace" ? 500 : 128);
});

test("attributes by which overlayfs speaks are data of an image and of a container", async () => {
  await using scratch = await scratchHome();
  await using pool = createPool({ size: 1 });
  await using driver = await overlay2.open(join(scratch.path, "home"), {}, { pool });
  const target = join(scratch.path, "merged");
  mkdirSync(target);
  const own = inUserNamespace() ? "user.overlay." : "trusted.overlay.";
  const one = { id: "one", parents: [] };
  const stage = await driver.stage(one);
  assert.deepEqual(stage.escapeXattrs, { from: own, to: `${own}overlay.` });
  mountAll(stage.mounts, target);
  mkdirSync(join(target, "folder"));
  writeFileSync(join(target, "folder/below"), "");
  setXattr(AT_FDCWD, join(target, "folder"), `${own}overlay.opaque`, Buffer.from("y"));
  unmountAll(target);
  await driver.commit(one);
  const top = { id: "top", parents: ["one"] };
  await driver.createWritable(top, {});
  mountAll(await driver.mounts(top, "writable"), target);
  try {
    assert.equal(getXattr(AT_FDCWD, join(target, "folder"), `${own}opaque`)?.toString(), "y");
    for (const prefix of new Set([own, "user.overlay."]))
      for (const mark of ["opaque", "redirect"])
        setXattr(AT_FDCWD, join(target, "folder"), prefix + mark, Buffer.from("y"));
    assert.deepEqual(readdirSync(join(target, "folder")), ["below"]);
    const lowerView = join(scratch.path, "below");
    mkdirSync(lowerView);
    mountAll(await driver.mounts(one, "layer"), lowerView);
    try {
      const argument = { upper: driver.changes(top)?.path, lowerView };
      const changes = await pool.run(archiveTasks, "overlayChangesTask", argument);
      assert.deepEqual(changes, [{ path: "/folder", kind: 0 }]);
    } finally {
      unmountAll(lowerView);
    }
  } finally {
    unmountAll(target);
  }
});
