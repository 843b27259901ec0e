/**
 * Volumes of zfs, of btrfs and of a GlusterFS cluster, through the docker CLI: filled from an image, used over a killed
 * daemon, shared, and gone after the last use; and by the plugin in a stock dockerd and podman. The cluster wants a network
 * of its own, which everything here is in.
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { mountTable } from "../src/host/mount.ts";
import { loopHome } from "../src/storage-driver/scratch-home.ts";
import { cannotMakePool, type ZfsHome, zfsHome } from "../src/storage-driver/zfs/zfs-pool.fixture.ts";
import { type Cluster, server, startCluster, volume } from "../src/volume-driver/glusterfs/cluster.fixture.ts";
import { missingOf } from "../src/volume-driver/requirements.ts";
import {
  type CommandResult,
  type Daemon,
  dockerdIsHere,
  removeContainerdPid,
  scratchFolder,
  startDockerd,
  startStrata,
  succeed,
  unmountBelow,
} from "./support/engine.ts";
import { podmanIsHere, setUpPodman } from "./support/podman.ts";
import { endProcesses, processesBelow } from "./support/processes.ts";
import { asFlags } from "./support/served-options.ts";
import { until } from "./support/until.ts";
import { dropUses, endUses, makeFilled, type UsedWorld, useOverKill } from "./support/used-volumes.ts";
import { type Plugin, startPlugin, stockPlugin } from "./support/volume-plugin.ts";

const glusterd = { kind: "program", name: "glusterd", advice: "" } as const;
const absent = (await missingOf([glusterd])).length > 0 ? "glusterd is not installed" : cannotMakePool();
const skip = process.getuid?.() === 0 ? absent : "the daemon needs root";

const names = ["zfs", "btrfs", "glusterfs"] as const;
/** A dockerd that finds the container after a kill waits so long (s) for it to end. */
const stopTimeout = ["--stop-timeout", "1"];

/** Of others: what uses volumes by the plugin. */
type Engine = {
  /** The name under which it knows the plugin. */
  readonly plugin: string;
  readonly run: (args: readonly string[]) => Promise<CommandResult>;
  readonly ok: (args: readonly string[]) => Promise<string>;
  /** Kills it; afterwards the container `two` runs again. Undefined where nothing runs that could be killed. */
  readonly restart: (() => Promise<void>) | undefined;
};

describe("volumes of zfs, btrfs and a cluster", { skip }, () => {
  const scratch = scratchFolder();
  const root = join(scratch.path, "strata");
  let cluster: Cluster;
  let pool: ZfsHome;
  let disk: Awaited<ReturnType<typeof loopHome>>;
  let world: UsedWorld;

  before(async () => {
    cluster = await startCluster();
    pool = await zfsHome();
    disk = await loopHome("btrfs");
    const drivers = names.map((name) => ({
      ...{ name, options: optionsOf(name, "a/b") },
      ...(name === "glusterfs" ? { program: "glusterfs" } : {}),
    }));
    world = { daemon: await startStrata({ root, driver: "overlay2" }), root, drivers };
    await makeFilled(world.daemon, scratch.path, 20);
  });

  after(async () => {
    if (world !== undefined) await dropUses(world);
    await unmountBelow(scratch.path);
    await disk?.[Symbol.asyncDispose]();
    await pool?.[Symbol.asyncDispose]();
    await cluster?.[Symbol.asyncDispose]();
    scratch[Symbol.dispose]();
  });

  function optionsOf(driver: (typeof names)[number], subdir: string): readonly string[] {
    if (driver === "zfs") return [`dataset=${pool.dataset}`, "size=32m"];
    if (driver === "btrfs") return [`device=${disk.path}`, "size=32m"];
    return [`servers=${server}`, `volume=${volume}`, `subdir=${subdir}`];
  }

  async function nothingIsLeft(dataRoot: string): Promise<void> {
    const args = ["list", "-H", "-t", "filesystem,snapshot", "-o", "name", "-r", pool.dataset];
    assert.equal((await succeed("zfs", args)).trim(), pool.dataset);
    assert.equal(await succeed("btrfs", ["subvolume", "list", disk.path]), "");
    for (const name of names) assert.deepEqual(readdirSync(join(dataRoot, "volume-drivers", name)), []);
  }

  test("a volume is filled, and a killed daemon takes nothing from who uses it", () => useOverKill(world));

  test("after the last use nothing is mounted, and the cluster keeps the data, pool and disk none", async () => {
    await endUses(world);
    await world.daemon.ok(["volume", "rm", ...names.map((name) => `v-${name}`)]);
    for (const name of ["one", "two"] as const) {
      assert.equal(readFileSync(join(cluster.brick(name), "a/b/f"), "utf8"), "kept\n");
      assert.equal(readFileSync(join(cluster.brick(name), "a/b/many/7/f17"), "utf8"), "17");
    }
    await nothingIsLeft(join(root, "data"));
  });

  test("a stock dockerd uses them by the plugin, over a killed plugin and a killed dockerd", {
    skip: !dockerdIsHere() && "no dockerd",
  }, async () => {
    await using stack = new AsyncDisposableStack();
    const home = join(scratch.path, "stock");
    stack.defer(() => endProcesses(home));
    const start = (): Promise<Daemon> => startDockerd(join(home, "dockerd"), join(home, "docker"), "vfs");
    let dockerd = await start();
    stack.defer(() => dockerd.stop());
    const { name, socket } = stockPlugin();
    const engine: Engine = {
      plugin: name,
      run: (args) => dockerd.docker(args),
      ok: (args) => dockerd.ok(args),
      restart: async () => {
        await dockerd.kill();
        removeContainerdPid(dockerd);
        dockerd = await start();
        await dockerd.ok(["start", "two"]);
      },
    };
    await useByPlugin(engine, () => startPlugin(home, socket));
  });

  test("podman uses them by the plugin, over a killed plugin", { skip: !podmanIsHere() && "no podman" }, async () => {
    await using stack = new AsyncDisposableStack();
    const home = join(scratch.path, "pod");
    stack.defer(() => endProcesses(home));
    const socket = join(home, "strata.sock");
    const podman = setUpPodman(join(home, "podman"), { plugins: { strata: socket } });
    await useByPlugin({ ...podman, plugin: "strata", restart: undefined }, () => startPlugin(home, socket));
  });

  async function useByPlugin(engine: Engine, start: () => Promise<Plugin>): Promise<void> {
    let plugin = await start();
    await using stack = new AsyncDisposableStack();
    stack.defer(() => plugin.stop());
    const mounts = (): readonly string[] =>
      mountTable()
        .flatMap(({ target }) => (target.startsWith(`${plugin.dataRoot}/`) ? [target] : []))
        .sort();
    const places = names.map((name) => join(plugin.dataRoot, "volume-drivers", name, `p-${name}`, "_data")).sort();
    const unmounted = (): Promise<void> => until("after the last use nothing is mounted", () => mounts().length === 0);
    const volumes = names.flatMap((name) => ["-v", `p-${name}:/${name}`]);
    const runs = (name: string): Promise<string> =>
      engine.ok(["run", "-d", "--network", "none", ...stopTimeout, "--name", name, ...volumes, "bb", "sleep", "1000"]);
    const reads = (name: string): Promise<string> =>
      engine.ok(["exec", name, "cat", ...names.map((each) => `/${each}/f`)]);

    await engine.ok(["import", join(scratch.path, "bb.tar"), "bb"]);
    for (const name of names) {
      const options = asFlags([`driver=${name}`, ...optionsOf(name, "stock")]);
      await engine.ok(["volume", "create", "--driver", engine.plugin, ...options, `p-${name}`]);
    }
    await runs("one");
    for (const name of names) await engine.ok(["exec", "one", "sh", "-c", `echo in-${name} >/${name}/f`]);
    const written = names.map((name) => `in-${name}`).join("\n");
    for (const name of ["zfs", "btrfs"]) {
      const full = await engine.run(["exec", "one", "dd", "if=/dev/urandom", `of=/${name}/big`, "bs=1M", "count=40"]);
      assert.match(full.stderr, /quota exceeded|No space left/i);
      await engine.ok(["exec", "one", "rm", `/${name}/big`]);
    }
    await engine.ok(["cp", "one:/zfs/f", join(scratch.path, "copy")]);
    assert.equal(readFileSync(join(scratch.path, "copy"), "utf8"), "in-zfs\n");
    assert.deepEqual(mounts(), places, "one mount of each, after a copy too");

    await plugin.kill();
    assert.equal(await reads("one"), written);
    plugin = await start();
    assert.deepEqual(mounts(), places, "what the container uses is still mounted, once");
    await runs("two");
    await engine.ok(["rm", "-f", "one"]);
    assert.equal(await reads("two"), written);
    for (const name of names) assert.notEqual((await engine.run(["volume", "rm", `p-${name}`])).code, 0);
    await engine.ok(["stop", "-t", "0", "two"]);
    await unmounted();
    await engine.ok(["start", "two"]);
    await engine.restart?.();
    assert.equal(await reads("two"), written);
    await engine.ok(["rm", "-f", "two"]);
    await unmounted();
    await engine.ok(["volume", "rm", ...names.map((name) => `p-${name}`)]);
    await nothingIsLeft(plugin.dataRoot);
    assert.equal(readFileSync(join(cluster.brick("one"), "stock/f"), "utf8"), "in-glusterfs\n", "the cluster keeps it");
    assert.deepEqual(processesBelow(join(plugin.dataRoot, "volume-drivers")), []);
  }
});
