/** Migration to and from the drivers whose trees a process serves: fuse-overlayfs, and zfs on zfs-fuse. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { mountTable } from "../host/mount.ts";
import { cannotMakePool, zfsHome } from "../storage-driver/zfs/zfs-pool.fixture.ts";
import { migrateDataRoot } from "./migrate.ts";
import { idOf, MovedRoot } from "./moved-root.fixture.ts";

const seed = Number(process.env.STRATA_SEED ?? Date.now() % 1_000_000);

async function moveAlong(moved: MovedRoot, drivers: readonly string[]): Promise<void> {
  for (const to of drivers) {
    const report = await migrateDataRoot({ dataRoot: moved.root, to });
    const way = `STRATA_SEED=${seed} ${report.from} to ${to}`;
    assert.equal(report.containers, 1, way);
    assert.equal(report.warnings.length, to === "zfs" ? 1 : 0, way);
    assert.deepEqual(await moved.problems(), [], `check with both, ${way}`);
    assert.deepEqual((await migrateDataRoot({ dataRoot: moved.root, to, removeOld: true })).removed, [report.from]);
    assert.deepEqual(await moved.problems(), [], `check with one, ${way}`);
    assert.deepEqual(await moved.picture(), moved.truth, `the old data are gone, ${way}`);
  }
}

test("to zfs and from it, on zfs-fuse", { skip: cannotMakePool() }, async (t) => {
  t.diagnostic(`STRATA_SEED=${seed}`);
  await using home = await zfsHome();
  {
    await using moved = await MovedRoot.make("vfs", { seed, base: home.path, containers: 1 });
    await moveAlong(moved, ["zfs", "vfs"]);
  }
  const left = execFileSync("zfs", ["list", "-H", "-o", "name", "-r", home.dataset], { encoding: "utf8" });
  assert.equal(left, `${home.dataset}\n`);
});

/** Seconds of times below a container, whatever their fractions. */
const inSeconds = (lines: readonly string[]): readonly string[] =>
  lines.map((line) => line.replace(/( \d+:\d+ -?\d+)\d{9}(?= |$)/, "$1"));

test("to a dataset elsewhere, which is named by an option: times lose their fractions, and nothing else is lost", {
  skip: cannotMakePool(),
}, async () => {
  await using home = await zfsHome();
  const there = { "zfs.fsname": home.dataset };
  await using moved = await MovedRoot.make("overlay2", { seed, containers: 1 });
  const report = await migrateDataRoot({ dataRoot: moved.root, to: "zfs", storageOptions: there });
  assert.match(report.warnings.join(), /zfs keeps times in whole seconds here/);
  const options = { dataRoot: moved.root, to: "overlay2", sourceOptions: there, replace: true, removeOld: true };
  assert.deepEqual((await migrateDataRoot(options)).removed, ["zfs"]);
  assert.deepEqual(inSeconds(await moved.picture()), inSeconds(moved.truth), `STRATA_SEED=${seed}`);
});

test("a container's file whose name is a whiteout to fuse-overlayfs stops it, by its name, and the old data stay in use", async () => {
  await using moved = await MovedRoot.make("overlay2", { seed, containers: 1, plain: true });
  {
    await using opened = await moved.open();
    const path = await opened.layers.mountWritable(idOf(0), "test");
    // What the container changed at random has no such name.
    mkdirSync(join(path, "whiteouts"));
    writeFileSync(join(path, "whiteouts/.wh.kept"), "x");
    await opened.layers.unmountWritable(idOf(0), "test");
  }
  await assert.rejects(migrateDataRoot({ dataRoot: moved.root, to: "fuse-overlayfs" }), {
    code: "unsupported",
    message: /"\/whiteouts\/\.wh\.kept" cannot be made there: .* it is still the driver/,
  });
});

test("to fuse-overlayfs and from it", async (t) => {
  t.diagnostic(`STRATA_SEED=${seed}`);
  await using moved = await MovedRoot.make("overlay2", { seed, containers: 1, plain: true });
  const mounts = (): number => mountTable().filter(({ target }) => target.startsWith(moved.root)).length;
  const before = mounts();
  await moveAlong(moved, ["fuse-overlayfs", "overlay2"]);
  assert.equal(mounts(), before);
});
