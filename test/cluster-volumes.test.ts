/**
 * Volumes of zfs and of a GlusterFS cluster, through the docker CLI: filled from an image, used over a killed daemon,
 * shared, and gone after the last use; and the same by the plugin in a stock dockerd. The cluster wants a network of its own, which everything here is in.
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { mountTable } from "../src/host/mount.ts";
import { cannotMakePool, type ZfsHome, zfsHome } from "../src/storage-driver/zfs/zfs-pool.fixture.ts";
import { type Cluster, server, startCluster, volume } from "../src/volume-driver/glusterfs/cluster.fixture.ts";
import { missingOf } from "../src/volume-driver/requirements.ts";
import {
  dockerdIsHere,
  removeContainerdPid,
  scratchFolder,
  startDockerd,
  startStrata,
  succeed,
  unmountBelow,
} from "./support/engine.ts";
import { endProcesses, processesBelow } from "./support/processes.ts";
import { asFlags } from "./support/served-options.ts";
import { until } from "./support/until.ts";
import { dropUses, endUses, makeFilled, type UsedWorld, useOverKill } from "./support/used-volumes.ts";
import { startPlugin } from "./support/volume-plugin.ts";

const glusterd = { kind: "program", name: "glusterd", advice: "" } as const;
const absent = (await missingOf([glusterd])).length > 0 ? "glusterd is not installed" : cannotMakePool();
const skip = process.getuid?.() === 0 ? absent : "the daemon needs root";

const names = ["zfs", "glusterfs"] as const;
const pluginSocket = "/run/docker/plugins/strata.sock";
/** A dockerd that finds the container after a kill waits so long (s) for it to end. */
const stopTimeout = ["--stop-timeout", "1"];

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
      { name: "zfs", options: optionsOf("zfs", "") },
      { name: "glusterfs", options: optionsOf("glusterfs", "a/b"), program: "glusterfs" },
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

  function optionsOf(driver: (typeof names)[number], subdir: string): readonly string[] {
    if (driver === "zfs") return [`dataset=${pool.dataset}`, "size=32m"];
    return [`servers=${server}`, `volume=${volume}`, `subdir=${subdir}`];
  }

  const datasets = async (): Promise<string[]> => {
    const args = ["list", "-H", "-t", "filesystem,snapshot", "-o", "name", "-r", pool.dataset];
    return (await succeed("zfs", args)).trim().split("\n");
  };

  test("a volume is filled, and a killed daemon takes nothing from who uses it", () => useOverKill(world));

  test("after the last use nothing is mounted, and the cluster keeps the data, the pool none", async () => {
    await endUses(world);
    await world.daemon.ok(["volume", "rm", "v-zfs", "v-glusterfs"]);
    for (const name of ["one", "two"] as const) {
      assert.equal(readFileSync(join(cluster.brick(name), "a/b/f"), "utf8"), "kept\n");
      assert.equal(readFileSync(join(cluster.brick(name), "a/b/many/7/f17"), "utf8"), "17");
    }
    for (const driver of names) assert.deepEqual(readdirSync(join(root, "data/volume-drivers", driver)), []);
    assert.deepEqual(await datasets(), [pool.dataset]);
  });

  test("a stock dockerd uses them by the plugin, over a killed plugin and a killed dockerd", {
    skip: !dockerdIsHere() && "no dockerd",
  }, async () => {
    await using stack = new AsyncDisposableStack();
    const home = join(scratch.path, "stock");
    stack.defer(() => endProcesses(home));
    let dockerd = await startDockerd(join(home, "dockerd"), join(home, "docker"), "vfs");
    stack.defer(() => dockerd.stop());
    let plugin = await startPlugin(home, pluginSocket);
    stack.defer(() => plugin.stop());
    const mounts = (): readonly string[] =>
      mountTable()
        .flatMap(({ target }) => (target.startsWith(`${plugin.dataRoot}/`) ? [target] : []))
        .sort();
    const places = names.map((name) => join(plugin.dataRoot, "volume-drivers", name, `p-${name}`, "_data")).sort();
    const volumes = names.flatMap((name) => ["-v", `p-${name}:/${name}`]);
    const runs = (name: string): Promise<string> =>
      dockerd.ok(["run", "-d", "--network", "none", ...stopTimeout, "--name", name, ...volumes, "bb", "sleep", "1000"]);
    const reads = (name: string): Promise<string> => dockerd.ok(["exec", name, "cat", "/zfs/f", "/glusterfs/f"]);
    const unmounted = (): Promise<void> => until("after the last use nothing is mounted", () => mounts().length === 0);

    await dockerd.ok(["import", join(scratch.path, "bb.tar"), "bb"]);
    for (const name of names) {
      const options = asFlags([`driver=${name}`, ...optionsOf(name, "stock")]);
      await dockerd.ok(["volume", "create", "-d", "strata", ...options, `p-${name}`]);
    }
    await runs("one");
    await dockerd.ok(["exec", "one", "sh", "-c", "echo in-zfs >/zfs/f; echo in-cluster >/glusterfs/f"]);
    const full = await dockerd.docker(["exec", "one", "dd", "if=/dev/urandom", "of=/zfs/big", "bs=1M", "count=40"]);
    assert.match(full.stderr, /quota exceeded|No space left/i);
    await dockerd.ok(["exec", "one", "rm", "/zfs/big"]);
    await dockerd.ok(["cp", "one:/zfs/f", "-"]);
    assert.deepEqual(mounts(), places, "one mount of each, after a copy too");

    await plugin.kill();
    assert.equal(await reads("one"), "in-zfs\nin-cluster");
    plugin = await startPlugin(home, pluginSocket);
    assert.deepEqual(mounts(), places, "what the container uses is still mounted, once");
    await runs("two");
    await dockerd.ok(["rm", "-f", "one"]);
    assert.equal(await reads("two"), "in-zfs\nin-cluster");
    for (const name of names) assert.notEqual((await dockerd.docker(["volume", "rm", `p-${name}`])).code, 0);
    await dockerd.ok(["stop", "-t", "0", "two"]);
    await unmounted();
    await dockerd.ok(["start", "two"]);

    await dockerd.kill();
    removeContainerdPid(dockerd);
    dockerd = await startDockerd(join(home, "dockerd"), join(home, "docker"), "vfs");
    await dockerd.ok(["start", "two"]);
    assert.equal(await reads("two"), "in-zfs\nin-cluster");
    await dockerd.ok(["rm", "-f", "two"]);
    await unmounted();
    await dockerd.ok(["volume", "rm", ...names.map((name) => `p-${name}`)]);
    assert.deepEqual(await datasets(), [pool.dataset]);
    assert.equal(readFileSync(join(cluster.brick("one"), "stock/f"), "utf8"), "in-cluster\n", "the cluster keeps it");
    for (const name of names) assert.deepEqual(readdirSync(join(plugin.dataRoot, "volume-drivers", name)), []);
    assert.deepEqual(processesBelow(join(plugin.dataRoot, "volume-drivers")), []);
  });
});
