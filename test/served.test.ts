/**
 * Drivers whose trees are served by a process (fuse-overlayfs: one for each mount; zfs on zfs-fuse: one for all): kill -9
 * of the daemon in the middle of an import, of a container's process while no daemon runs, and of the process that
 * serves. What was kept is there afterwards; no process, mount, directory or dataset is left.
 */
import assert from "node:assert/strict";
import { createReadStream, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { test } from "node:test";
import { mountTable } from "../src/host/mount.ts";
import { cannotMakePool, zfsHome } from "../src/storage-driver/zfs/zfs-pool.fixture.ts";
import {
  busyboxTar,
  command,
  type Daemon,
  scratchFolder,
  startStrata,
  succeed,
  unmountBelow,
} from "./support/engine.ts";
import { until } from "./support/until.ts";

type World = {
  readonly scratch: string;
  readonly dataRoot: string;
  readonly driver: string;
  daemon: Daemon;
};

const mountsBelow = (path: string): string[] =>
  mountTable().flatMap(({ target }) => (target.startsWith(`${path}/`) ? [target] : []));

/** Numbers of the fuse-overlayfs processes whose mount is below `path`. */
function servers(path: string): number[] {
  const isServer = (pid: string): boolean => {
    try {
      const words = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
      return words[0] === "fuse-overlayfs" && words.some((word) => word.startsWith(path));
    } catch {
      return false;
    }
  };
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && isServer(name))
    .map(Number);
}

const start = ({ scratch, dataRoot, driver }: Omit<World, "daemon">): Promise<Daemon> =>
  startStrata({ root: join(scratch, "run"), dataRoot, driver });

/** Kills the daemon while a layer is being filled; nobody will ever send the rest of it. */
async function killInImport(world: World, tar: string): Promise<void> {
  const input = new PassThrough();
  createReadStream(tar, { end: 300_000 }).pipe(input, { end: false });
  const import_ = world.daemon.docker(["import", "-", "never"], { input });
  const stages = join(world.daemon.execRoot, "mnt");
  await until("a stage is mounted", () => mountsBelow(stages).length > 0);
  await world.daemon.kill();
  input.end();
  assert.notEqual((await import_).code, 0);
  assert.ok(mountsBelow(stages).length > 0, "the kill left something");
  world.daemon = await start(world);
  assert.deepEqual(mountsBelow(stages), []);
  await until("the stage's process ended", () => servers(stages).length === 0);
}

/** The container's process goes while nobody looks; its mount is taken away by the next daemon. */
async function killContainerUnseen(world: World): Promise<void> {
  const pid = Number(await world.daemon.ok(["inspect", "-f", "{{.State.Pid}}", "stays"]));
  await world.daemon.kill();
  process.kill(pid, "SIGKILL");
  await until("the container ended", () => !isAlive(pid));
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

async function assertNotRunning({ daemon }: World): Promise<void> {
  const layers = join(daemon.execRoot, "layers");
  await until("the container is seen to have ended", async () => {
    return (await daemon.ok(["inspect", "-f", "{{.State.Running}}", "stays"])) === "false";
  });
  await until("its mount is gone", () => mountsBelow(layers).length === 0);
  await until("its process is gone", () => servers(layers).length === 0);
}

const kept = ({ daemon }: World): Promise<string> => daemon.ok(["exec", "stays", "cat", "/kept"]);

async function beginStory(world: World): Promise<void> {
  const tar = await busyboxTar(join(world.scratch, "busybox.tar"));
  await world.daemon.ok(["import", tar, "busybox"]);
  await world.daemon.ok(["run", "-d", "--name", "stays", "busybox", "sleep", "1000"]);
  await world.daemon.ok(["exec", "stays", "sh", "-c", "echo here >/kept"]);
  await killInImport(world, tar);
  assert.equal(await kept(world), "here", "the container outlived the daemon");
}

/** An offline check reads every layer by its digest through the driver, and gives back what it mounted. */
async function assertSound(world: World): Promise<void> {
  await world.daemon.stop();
  const roots = ["--data-root", world.dataRoot, "--exec-root", world.daemon.execRoot];
  const strata = new URL("../bin/strata", import.meta.url).pathname;
  const { code, stdout, stderr } = await command(strata, ["check", ...roots, "--storage-driver", world.driver]);
  assert.equal(code, 0, stdout + stderr);
  world.daemon = await start(world);
}

/** Everything is removed; start-up and a moment later only the driver's own folders may stand. */
async function endStory(world: World): Promise<void> {
  await assertSound(world);
  await world.daemon.ok(["rm", "-f", "stays", "other"]);
  await world.daemon.ok(["rmi", "busybox"]);
  await world.daemon.stop();
  world.daemon = await start(world);
}

async function inWorld(driver: string, base: string | undefined, tell: (world: World) => Promise<void>): Promise<void> {
  using scratch = scratchFolder();
  const dataRoot = join(base ?? scratch.path, "data");
  const place = { scratch: scratch.path, dataRoot, driver };
  mkdirSync(join(scratch.path, "run"));
  const world: World = { ...place, daemon: await start(place) };
  try {
    await tell(world);
  } finally {
    await world.daemon.docker(["rm", "-f", "stays", "other"]);
    await world.daemon.kill();
    await unmountBelow(scratch.path);
  }
}

test("fuse-overlayfs: kills leave no process, mount or directory, and lose nothing", () =>
  inWorld("fuse-overlayfs", undefined, async (world) => {
    await beginStory(world);
    await killContainerUnseen(world);
    const layers = join(world.daemon.execRoot, "layers");
    assert.equal(servers(layers).length, 1, "the kill left something");
    world.daemon = await start(world);
    await assertNotRunning(world);
    await world.daemon.ok(["start", "stays"]);
    assert.equal(await kept(world), "here");
    for (const pid of servers(layers)) process.kill(pid, "SIGKILL");
    await until("the process is gone", () => servers(layers).length === 0);
    assert.notEqual((await world.daemon.docker(["exec", "stays", "cat", "/kept"])).code, 0);
    await world.daemon.ok(["restart", "-t", "0", "stays"]);
    assert.equal(await kept(world), "here");
    await world.daemon.ok(["create", "--name", "other", "busybox", "true"]);
    await endStory(world);
    const home = join(world.dataRoot, "fuse-overlayfs");
    await until("the layers are gone", () => readdirSync(home, { recursive: true }).length === 3);
    assert.deepEqual(readdirSync(home).toSorted(), ["empty", "staging", "trash"]);
    assert.deepEqual(servers(world.scratch), []);
    assert.deepEqual(mountsBelow(world.daemon.execRoot), []);
  }));

test("zfs: kills leave no mount or dataset, and lose nothing that was synced", { skip: cannotMakePool() }, async () => {
  await using home = await zfsHome();
  await inWorld("zfs", home.path, async (world) => {
    await beginStory(world);
    // A command of ZFS syncs the pool.
    await world.daemon.ok(["create", "--name", "other", "busybox", "true"]);
    await killContainerUnseen(world);
    await home.restart();
    world.daemon = await start(world);
    await assertNotRunning(world);
    await world.daemon.ok(["start", "stays"]);
    assert.equal(await kept(world), "here");
    await endStory(world);
    const datasets = (): Promise<string> => succeed("zfs", ["list", "-H", "-o", "name", "-r", home.dataset]);
    await until("the datasets are gone", async () => (await datasets()) === `${home.dataset}\n`);
    await until("their places are gone", () => readdirSync(join(world.dataRoot, "zfs/graph")).length === 0);
    assert.deepEqual(mountsBelow(world.daemon.execRoot), []);
  });
});
