/**
 * Volumes of zfs and of a GlusterFS cluster, through the docker CLI: filled from an image, used over a killed daemon,
 * shared, and gone after the last use. The cluster wants a network of its own, which everything here is in.
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { cannotMakePool, type ZfsHome, zfsHome } from "../src/storage-driver/zfs/zfs-pool.fixture.ts";
import { type Cluster, server, startCluster, volume } from "../src/volume-driver/glusterfs/cluster.fixture.ts";
import { missingOf } from "../src/volume-driver/requirements.ts";
import { scratchFolder, startStrata, succeed, unmountBelow } from "./support/engine.ts";
import { dropUses, endUses, makeFilled, type UsedWorld, useOverKill } from "./support/used-volumes.ts";

const glusterd = { kind: "program", name: "glusterd", advice: "" } as const;
const absent = (await missingOf([glusterd])).length > 0 ? "glusterd is not installed" : cannotMakePool();
const skip = process.getuid?.() === 0 ? absent : "the daemon needs root";

describe("volumes of zfs and of a cluster", { skip }, () => {
  const scratch = scratchFolder();
  const root = join(scratch.path, "strata");
  let cluster: Cluster;
  let pool: ZfsHome;
  let world: UsedWorld;

  before(async () => {
    cluster = await startCluster();
    pool = await zfsHome();
    const drivers = [
      { name: "zfs", options: [`dataset=${pool.dataset}`, "size=32m"] },
      { name: "glusterfs", options: [`servers=${server}`, `volume=${volume}`, "subdir=a/b"], program: "glusterfs" },
    ];
    world = { daemon: await startStrata({ root, driver: "overlay2" }), root, drivers };
    await makeFilled(world.daemon, scratch.path, 20);
  });

  after(async () => {
    if (world !== undefined) await dropUses(world);
    await unmountBelow(scratch.path);
    await pool?.[Symbol.asyncDispose]();
    await cluster?.[Symbol.asyncDispose]();
    scratch[Symbol.dispose]();
  });

  test("a volume is filled, and a killed daemon takes nothing from who uses it", () => useOverKill(world));

  test("after the last use nothing is mounted, and the cluster keeps the data, the pool none", async () => {
    await endUses(world);
    await world.daemon.ok(["volume", "rm", "v-zfs", "v-glusterfs"]);
    for (const name of ["one", "two"] as const) {
      assert.equal(readFileSync(join(cluster.brick(name), "a/b/f"), "utf8"), "kept\n");
      assert.equal(readFileSync(join(cluster.brick(name), "a/b/many/7/f17"), "utf8"), "17");
    }
    for (const driver of ["zfs", "glusterfs"])
      assert.deepEqual(readdirSync(join(root, "data/volume-drivers", driver)), []);
    const datasets = await succeed("zfs", [
      "list",
      "-H",
      "-t",
      "filesystem,snapshot",
      "-o",
      "name",
      "-r",
      pool.dataset,
    ]);
    assert.equal(datasets.trim(), pool.dataset);
  });
});
