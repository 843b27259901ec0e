import assert from "node:assert/strict";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { TarReader } from "../archive/read-tar.ts";
import { createPool } from "../host/worker-pool.ts";
import { run } from "../host/zfs-command.ts";
import { cannotMakePool, zfsHome } from "../storage-driver/zfs/zfs-pool.fixture.ts";
import { ZfsReader } from "./zfs-graph.ts";

const [init, id] = ["a".repeat(64), "b".repeat(64)];

test("a container's dataset is read against its init layer's, and one that is gone is told", {
  skip: cannotMakePool(),
}, async () => {
  await using base = await zfsHome();
  await using pool = createPool({ size: 1 });
  // Where ZFS is a process it mounts its datasets itself, so they are mounted already.
  const graph = join(base.path, "zfs/graph");
  mkdirSync(graph, { recursive: true });
  await run("zfs", "create", "-o", `mountpoint=${join(graph, init)}`, `${base.dataset}/${init}`);
  mkdirSync(join(graph, init, "etc"));
  for (const name of ["etc/gone", "etc/kept"]) writeFileSync(join(graph, init, name), "below");
  await run("zfs", "snapshot", `${base.dataset}/${init}@1`);
  await run(
    "zfs",
    "clone",
    "-o",
    `mountpoint=${join(graph, id)}`,
    `${base.dataset}/${init}@1`,
    `${base.dataset}/${id}`,
  );
  rmSync(join(graph, id, "etc/gone"));
  writeFileSync(join(graph, id, "etc/new"), "above!");
  const mounted: unknown[] = [];
  const reader = new ZfsReader({
    home: join(base.path, "zfs"),
    pool,
    mount: async (steps) => {
      mounted.push(...steps);
      return { path: "/nowhere", [Symbol.asyncDispose]: async () => undefined };
    },
  });
  {
    await using files = await reader.files(init);
    assert.equal(readFileSync(join(files.path, "etc/kept"), "utf8"), "below");
  }
  const layer = { id, init, parents: [] };
  assert.equal(await reader.changesSize(layer), 6);
  const tar = new TarReader(reader.changes(layer));
  const names: string[] = [];
  for (let entry = await tar.next(); entry !== undefined; entry = await tar.next()) names.push(entry.path);
  assert.deepEqual(names, ["etc/", "etc/.wh.gone", "etc/new"]);
  assert.deepEqual(mounted, []);
  // As dockerd leaves them: one that is not mounted is mounted, read-only.
  await run("zfs", "unmount", `${base.dataset}/${id}`);
  await using _tree = await reader.files(id);
  assert.deepEqual(mounted, [{ kind: "filesystem", type: "zfs", source: `${base.dataset}/${id}`, options: ["ro"] }]);
  await assert.rejects(reader.files("c".repeat(64)), { code: "data_loss", message: /dataset c+ is missing/ });
});
