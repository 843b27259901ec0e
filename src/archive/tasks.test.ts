import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { isError } from "../base/errors.ts";
import { createPool } from "../host/worker-pool.ts";
import type { AppliedLayer } from "./apply-layer.ts";
import { archiveTasks } from "./task-url.ts";
import { collect, rawTar, scratch, stream } from "./tree.fixture.ts";
import type { TreeSize } from "./tree-size.ts";

test("a layer goes in and out of a worker, is compared, packed, measured and extracted there", async () => {
  using directory = scratch();
  await using pool = createPool();
  for (const name of ["root", "empty", "out"]) mkdirSync(directory.sub(name));
  const [root, recipePath] = [directory.sub("root"), directory.sub("recipe")];
  const tar = rawTar([
    { path: "d/", type: "5", mode: 0o755 },
    { path: "d/f", content: "x".repeat(300_000) },
  ]);
  const applied = await pool.run<object, AppliedLayer>(
    archiveTasks,
    "applyLayerTask",
    { root, recipePath },
    { input: stream(tar) },
  );
  assert.deepEqual([applied.size, applied.tarSize], [300_000, tar.length]);
  const restored = pool.stream(archiveTasks, "restoreTarTask", { root, recipePath });
  assert.ok((await collect(restored.output)).equals(tar));
  await restored.result;
  const trees = { base: directory.sub("empty"), tree: root };
  assert.deepEqual(await pool.run(archiveTasks, "compareTreesTask", trees), [
    { path: "/d", kind: 1 },
    { path: "/d/f", kind: 1 },
  ]);
  assert.equal(await pool.run(archiveTasks, "compareTreesSizeTask", trees), 300_000);
  const upper = { upper: root, lowerView: directory.sub("empty") };
  assert.deepEqual(await pool.run(archiveTasks, "overlayChangesTask", upper), [
    { path: "/d", kind: 1 },
    { path: "/d/f", kind: 1 },
  ]);
  const one = await collect(pool.stream(archiveTasks, "overlayChangesTarTask", upper).output);
  const other = await collect(pool.stream(archiveTasks, "compareTreesTarTask", trees).output);
  assert.ok(one.equals(other));
  const size = await pool.run<object, TreeSize>(archiveTasks, "treeSizeTask", { path: root });
  assert.deepEqual([size.bytes, size.inodes], [300_000, 3]);
  const packed = await collect(pool.stream(archiveTasks, "packTreeTask", { root, path: "/d" }).output);
  await pool.run(archiveTasks, "extractTreeTask", { root: directory.path, dest: "/out" }, { input: stream(packed) });
  assert.equal(readFileSync(directory.sub("out/d/f"), "utf8").length, 300_000);
});

test("errors keep their code on the way out of a worker", async () => {
  using directory = scratch();
  await using pool = createPool();
  writeFileSync(directory.sub("file"), "");
  const argument = { root: directory.path, path: "/nothing" };
  const { output, result } = pool.stream(archiveTasks, "packTreeTask", argument);
  await assert.rejects(collect(output), (error) => isError(error, "not_found"));
  await assert.rejects(result, (error) => isError(error, "not_found"));
});
