import assert from "node:assert/strict";
import { existsSync, lstatSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { lockFile } from "../host/lock.ts";
import { mountTable } from "../host/mount.ts";
import { loopHome } from "../storage-driver/scratch-home.ts";
import { migrateDataRoot } from "./migrate.ts";
import { idOf, MovedRoot } from "./moved-root.fixture.ts";

const seed = Number(process.env.STRATA_SEED ?? Date.now() % 1_000_000);

test("every driver to every other: layers by digest, containers entry for entry, and nothing is wrong afterwards", async (t) => {
  t.diagnostic(`STRATA_SEED=${seed}`);
  await using loop = await loopHome("btrfs");
  await using moved = await MovedRoot.make("overlay2", { seed, base: loop.path, containers: 2 });
  // Others may mount and unmount beside us.
  const mounts = (): number => mountTable().filter(({ target }) => target.startsWith(loop.path)).length;
  const before = mounts();
  for (const to of ["vfs", "btrfs", "overlay2", "btrfs", "vfs", "overlay2"]) {
    const report = await migrateDataRoot({ dataRoot: moved.root, to });
    assert.equal(report.containers, 2, `${report.from} to ${to}`);
    assert.deepEqual(await moved.problems(), [], `check with both, ${report.from} to ${to}`);
    assert.deepEqual(await moved.picture(), moved.truth, `STRATA_SEED=${seed} ${report.from} to ${to}`);
    assert.deepEqual((await migrateDataRoot({ dataRoot: moved.root, to, removeOld: true })).removed, [report.from]);
    assert.deepEqual(await moved.problems(), [], `check with one, ${report.from} to ${to}`);
    assert.deepEqual(await moved.picture(), moved.truth, `the old data are gone, ${report.from} to ${to}`);
    await using opened = await moved.open();
    assert.equal(opened.driver, to, "nobody said which driver");
  }
  assert.equal(mounts(), before);
  assert.equal(existsSync(join(moved.root, "migrating")), false);
});

test("there and back: what containers changed in between counts, not the copies that were left", async () => {
  await using moved = await MovedRoot.make("overlay2", { seed, containers: 2 });
  await migrateDataRoot({ dataRoot: moved.root, to: "vfs" });
  {
    await using opened = await moved.open();
    await moved.change(idOf(0), seed + 100, opened.layers);
    await opened.layers.removeWritable(idOf(1), [{ sql: "DELETE FROM container WHERE id = ?", parameters: [idOf(1)] }]);
  }
  const changed = await moved.picture();
  const report = await migrateDataRoot({ dataRoot: moved.root, to: "overlay2" });
  assert.deepEqual([report.from, report.containers, report.layers], ["vfs", 1, 0], "the layers were there already");
  assert.deepEqual(await moved.picture(), changed);
});

test("a driver that is used again is no copy: its containers are not thrown away unasked", async () => {
  await using moved = await MovedRoot.make("overlay2", { seed, containers: 1 });
  await migrateDataRoot({ dataRoot: moved.root, to: "vfs" });
  {
    await using back = await moved.open("overlay2");
    await moved.change(idOf(0), seed + 7, back.layers);
  }
  const changed = await moved.picture();
  assert.deepEqual((await migrateDataRoot({ dataRoot: moved.root, to: "overlay2", removeOld: true })).removed, []);
  await assert.rejects(migrateDataRoot({ dataRoot: moved.root, to: "vfs" }), {
    code: "conflict",
    message: /vfs has layers of containers of its own .*--replace/,
  });
  await migrateDataRoot({ dataRoot: moved.root, to: "vfs", replace: true });
  assert.deepEqual(await moved.picture(), changed);
});

test("an engine that runs between an interrupted migration and its end makes the copies worth nothing", async () => {
  await using moved = await MovedRoot.make("overlay2", { seed, containers: 2 });
  const copied = migrateDataRoot({
    dataRoot: moved.root,
    to: "vfs",
    progress: ({ what, done }) => {
      if (what === "container" && done === 1) throw new Error("cut short");
    },
  });
  await assert.rejects(copied, /cut short/);
  assert.deepEqual(await moved.problems(), [], "an interrupted run leaves nothing that is wrong");
  {
    await using opened = await moved.open();
    assert.equal(opened.driver, "overlay2");
    await moved.change(idOf(0), seed + 50, opened.layers);
  }
  const changed = await moved.picture();
  const report = await migrateDataRoot({ dataRoot: moved.root, to: "vfs" });
  assert.deepEqual([report.containers, report.layers], [2, 0]);
  assert.deepEqual(await moved.picture(), changed);
});

test("a layer that is not what its digest says stops it, and the old data stay in use", async () => {
  await using moved = await MovedRoot.make("overlay2", { seed, containers: 0 });
  const damaged = readdirSync(join(moved.root, "overlay2"))
    .map((id) => join(moved.root, "overlay2", id, "diff/bin/tool"))
    .find((path) => lstatSync(path, { throwIfNoEntry: false })?.size === 20_000);
  assert.ok(damaged !== undefined);
  writeFileSync(damaged, "tool".repeat(4999).concat("toot"));
  await assert.rejects(migrateDataRoot({ dataRoot: moved.root, to: "vfs" }), {
    code: "data_loss",
    message: /not what was recorded: .*Nothing of overlay2 was changed, and it is still the driver/,
  });
  await using opened = await moved.open();
  assert.equal(opened.driver, "overlay2");
});

test("it is refused while an engine has the data root, and while a container's layer is mounted", async () => {
  await using moved = await MovedRoot.make("overlay2", { seed, containers: 1 });
  {
    await using _lock = lockFile(join(moved.root, "strata.pid"));
    await assert.rejects(migrateDataRoot({ dataRoot: moved.root, to: "vfs" }), {
      code: "conflict",
      message: new RegExp(`process ${process.pid};`),
    });
  }
  {
    await using opened = await moved.open();
    await opened.layers.mountWritable(idOf(0), "container");
  }
  await assert.rejects(migrateDataRoot({ dataRoot: moved.root, to: "vfs" }), {
    code: "conflict",
    message: /a container runs, or its layer is still mounted at .*docker stop/,
  });
});

test("storage options that the target cannot keep are told, and the container's record keeps them", async () => {
  await using moved = await MovedRoot.make("overlay2", { seed, containers: 1 });
  {
    await using opened = await moved.open();
    const sql = `UPDATE container SET record = json_set(record, '$.hostConfig.StorageOpt', json('{"size":"64m","iops":"9"}'))`;
    await opened.database.transact([{ sql }]);
  }
  await assert.rejects(migrateDataRoot({ dataRoot: moved.root, to: "vfs" }), {
    code: "unsupported",
    message: /vfs cannot keep these storage options: container \w{12}: iops=9\. Say --ignore-storage-opt/,
  });
  const report = await migrateDataRoot({ dataRoot: moved.root, to: "vfs", ignoreStorageOptions: true });
  assert.match(report.warnings.join(), /iops=9 is not in force on vfs/);
  assert.match((await moved.picture()).join("\n"), /\\"StorageOpt\\":\{\\"size\\":\\"64m\\",\\"iops\\":\\"9\\"\}/);
  // What it can keep is in force: a tree with a limit is a filesystem in a file.
  const trees = readdirSync(join(moved.root, "vfs/dir"), { withFileTypes: true });
  assert.equal(trees.filter((entry) => entry.isFile()).length, 1);
});
