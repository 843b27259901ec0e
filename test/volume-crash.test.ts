/**
 * kill -9 of the daemon at random moments while volumes of btrfs and zfs are made, cloned, kept as snapshots, turned back,
 * used and removed. After each restart every acknowledged volume, snapshot and file is there, every acknowledged removal
 * held, containers run on with their volumes, which are mounted for them and for nobody else, and nothing half made is on
 * disk; at the end no dataset, subvolume, mount or process is left. `STRATA_VOLUME_KILLS` sets how often for each driver,
 * `STRATA_SEED` repeats a run's choices.
 */
import assert from "node:assert/strict";
import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { loopHome } from "../src/storage-driver/scratch-home.ts";
import { cannotMakePool, zfsHome } from "../src/storage-driver/zfs/zfs-pool.fixture.ts";
import { problemsOf } from "./support/check.ts";
import { busyboxTar, type Daemon, scratchFolder, startStrata, succeed, unmountBelow } from "./support/engine.ts";
import { endProcesses, processesBelow } from "./support/processes.ts";
import { seededRandom } from "./support/random.ts";
import { until } from "./support/until.ts";
import { image, lasting, lookAt, type Seen, VolumeClient, type VolumeWorld } from "./support/volume-load.ts";

const kills = Number(process.env.STRATA_VOLUME_KILLS ?? 8);
const seed = Number(process.env.STRATA_SEED ?? Date.now() % 2 ** 31);
const asked = process.env.STRATA_CRASH_DRIVERS?.split(",");
const skip = process.getuid?.() === 0 ? false : "the daemon needs root";

/** Where a driver keeps its volumes, and what may be there. */
type Home = AsyncDisposable & {
  /** For the daemon's data root. */
  readonly path: string | undefined;
  readonly optionsFor: VolumeWorld["optionsFor"];
  /** Whether a volume that is used is mounted. */
  readonly mounts: (volume: string, dataRoot: string) => boolean;
  /** What should not be on disk while these volumes with their snapshots are there. */
  readonly leftovers: (volumes: Seen["volumes"], dataRoot: string) => Promise<readonly string[]>;
};

const sizes = (random: () => number): Record<string, string> => (random() < 0.3 ? { size: "100m" } : {});
const folderOf = (dataRoot: string, driver: string): string => join(dataRoot, "volume-drivers", driver);

/** Datasets below one of a pool. */
async function zfs(): Promise<Home> {
  const home = await zfsHome();
  const { dataset } = home;
  const list = async (...columns: readonly string[]): Promise<string[][]> => {
    const args = ["list", "-H", "-t", "filesystem,snapshot", "-o", columns.join(","), "-r", dataset];
    return (await succeed("zfs", args)).split("\n").map((line) => line.split("\t"));
  };
  return {
    path: undefined,
    optionsFor: (random) => ({ ...sizes(random), dataset }),
    mounts: () => true,
    async leftovers(volumes, dataRoot) {
      const folder = folderOf(dataRoot, "zfs");
      const known = new Map<string, ReadonlySet<string>>();
      const heads = new Set([dataset]);
      for (const [name, snapshots] of volumes) {
        const { head, elders } = JSON.parse(readFileSync(join(folder, name, "datasets.json"), "utf8"));
        heads.add(head);
        for (const each of [head, ...elders]) known.set(each, snapshots);
      }
      const rows = await list("name", "origin");
      const origins = new Set(rows.map(([, origin]) => origin));
      const holding = new Set(rows.flatMap(([name = ""]) => (/@[^:]+$/.test(name) ? [name.split("@")[0]] : [])));
      const wrong = rows.flatMap(([name = ""]) => {
        const [owner = "", snapshot] = name.split("@");
        if (name === "") return [];
        // A hidden one only keeps what a clone shares.
        if (snapshot?.includes(":")) return origins.has(name) ? [] : [name];
        if (snapshot !== undefined) return known.get(owner)?.has(snapshot) ? [] : [name];
        return heads.has(name) || (known.has(name) && holding.has(name)) ? [] : [name];
      });
      return [...wrong, ...halves(folder)];
    },
    [Symbol.asyncDispose]: () => home[Symbol.asyncDispose](),
  };
}

/** Subvolumes in the data root, and below a folder that the option `device` names. */
async function btrfs(): Promise<Home> {
  const home = await loopHome("btrfs");
  const device = join(home.path, "device");
  mkdirSync(device);
  const places = (name: string): string[] =>
    readdirSync(device)
      .filter((found) => found.replace(/\.[0-9a-f]{8}$/, "") === name)
      .map((found) => join(device, found));
  return {
    path: home.path,
    optionsFor: (random) => ({ ...sizes(random), ...(random() < 0.5 ? { device } : {}) }),
    mounts: (volume) => places(volume).length > 0,
    async leftovers(volumes, dataRoot) {
      const folder = folderOf(dataRoot, "btrfs");
      const wanted: string[] = [];
      for (const [name, snapshots] of volumes) {
        const at = places(name)[0] ?? join(folder, name);
        wanted.push(join(at, "_data"), ...[...snapshots].map((one) => join(at, ".snapshots", one, "data")));
      }
      const lines = (await succeed("btrfs", ["subvolume", "list", home.path])).split("\n");
      const found = lines.flatMap((line) => {
        const path = / path (.*)$/.exec(line)?.[1];
        return path === undefined ? [] : [join(home.path, path)];
      });
      const lost = wanted.filter((path) => !found.includes(path)).map((path) => `no subvolume ${path}`);
      const more = readdirSync(device).filter((name) => !volumes.has(name.replace(/\.[0-9a-f]{8}$/, "")));
      return [...lost, ...found.filter((path) => !wanted.includes(path)), ...more, ...halves(folder)];
    },
    [Symbol.asyncDispose]: () => home[Symbol.asyncDispose](),
  };
}

/** Volumes in a driver's folder that are half made, or half removed, and their snapshots. */
const halves = (folder: string): readonly string[] =>
  (readdirSync(folder, { recursive: true }) as string[]).filter((name) => /(^|\/)\.(new|gone|trial)-[^/]*$/.test(name));

type Place = { readonly root: string; readonly dataRoot: string; readonly driver: string };
type Run = {
  readonly world: VolumeWorld;
  readonly clients: readonly VolumeClient[];
  readonly home: Home;
  readonly place: Place;
};

const start = ({ root, dataRoot }: Place): Promise<Daemon> => startStrata({ root, dataRoot, driver: "overlay2" });

/** A container that has all of the volumes reads every file: its name is its content. */
async function contents({ daemon }: VolumeWorld, volumes: Iterable<string>): Promise<Map<string, Set<string>>> {
  const found = new Map([...volumes].map((name) => [name, new Set<string>()]));
  if (found.size === 0) return found;
  const binds = [...found.keys()].flatMap((name) => ["-v", `${name}:/v/${name}`]);
  const args = ["run", "--rm", "--network", "none", ...binds, image, "sh", "-c", "cd /v; grep -r . . || true"];
  for (const line of (await daemon.ok(args)).split("\n").filter((text) => text !== "")) {
    const [, volume = "", name = "", content] = /^\.\/([^/]+)\/([^/]+):(.*)$/.exec(line) ?? [];
    assert.equal(content, name, line);
    found.get(volume)?.add(name);
  }
  return found;
}

function compareContents({ clients }: Run, found: ReadonlyMap<string, Set<string>>): void {
  for (const [name, known] of clients.flatMap(({ volumes }) => [...volumes])) {
    const files = found.get(name) ?? new Set();
    const { must, may } = known.content;
    assert.deepEqual([...must.difference(files)], [], `acknowledged files of ${name} are gone`);
    assert.deepEqual([...files.difference(may)], [], `files of ${name} that nobody wrote, or that were turned back`);
    known.content = { must: files, may: files };
  }
}

/** What was mounted for containers that run is, in their eyes too; nothing else is. */
async function compareMounts({ world, clients, home, place }: Run): Promise<void> {
  const { daemon, driver } = world;
  const used = new Set<string>();
  for (const { containers, volumes } of clients)
    for (const [name, known] of containers) {
      const { volume, running } = known;
      if (!running) continue;
      const pid = Number(await daemon.ok(["inspect", "-f", "{{.State.Pid}}", name]));
      known.pid = pid;
      const seen = new Set(readdirSync(`/proc/${pid}/root/d`));
      const lost = [...(volumes.get(volume)?.content.must ?? [])].filter((file) => !seen.has(file));
      assert.deepEqual(lost, [], `${name} does not see its volume ${volume}`);
      if (home.mounts(volume, place.dataRoot)) used.add(join(folderOf(place.dataRoot, driver), volume, "_data"));
    }
  await until("only what is used is mounted", () => {
    const mounted = mountsBelow(folderOf(place.dataRoot, driver));
    return mounted.length === used.size && mounted.every((path) => used.has(path));
  });
}

const mountsBelow = (path: string): readonly string[] =>
  readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .map((line) => line.split(" ")[4] ?? "")
    .filter((target) => target.startsWith(`${path}/`));

async function audit(run: Run): Promise<void> {
  const { world, clients, home, place } = run;
  const seen = await lookAt(world.daemon);
  for (const client of clients) client.settle(seen);
  assert.deepEqual(
    clients.flatMap(({ complaints }) => complaints),
    [],
  );
  // To look into all of them mounts and unmounts them, so it comes last.
  await compareMounts(run);
  let left: readonly string[] = [];
  await until("nothing half made is left", async () => {
    left = await home.leftovers(seen.volumes, place.dataRoot);
    return left.length === 0;
  }).catch((error) => assert.fail(`${error}: ${left.join(" ")}`));
  compareContents(run, await contents(world, seen.volumes.keys()));
}

/** So much work is done on any machine; the kill comes at some moment of what is under way then. */
async function someWork({ acknowledged, random }: VolumeWorld): Promise<void> {
  const sum = (): number => [...acknowledged.values()].reduce((all, one) => all + one, 0);
  const wanted = sum() + Math.floor(random() * 12);
  for (let tries = 0; sum() < wanted && tries < 2000; tries++) await sleep(10);
  await sleep(random() * 150);
}

/** Sometimes a container ends while no daemon is there to unmount its volume. */
function endOne({ world, clients }: Run): readonly string[] {
  if (world.random() < 0.4) return [];
  for (const { containers } of clients)
    for (const [name, known] of containers) {
      // One that was being stopped may have ended already.
      if (!known.running || known.pid === undefined || !isLasting(known.pid)) continue;
      process.kill(known.pid, "SIGKILL");
      known.running = false;
      delete known.pid;
      world.acknowledged.set("end by itself", (world.acknowledged.get("end by itself") ?? 0) + 1);
      return [name];
    }
  return [];
}

function isLasting(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8") === `${lasting.join("\0")}\0`;
  } catch {
    return false;
  }
}

async function ordeal(run: Run): Promise<void> {
  const { world, clients, place } = run;
  for (let kill = 1; kill <= kills; kill++) {
    const stop = new AbortController();
    world.dying = false;
    const working = clients.map((client) => client.work(stop.signal));
    await someWork(world);
    world.dying = true;
    stop.abort();
    await world.daemon.kill();
    await Promise.all(working);
    const ended = endOne(run);
    world.daemon = await start(place);
    for (const name of ended) await world.daemon.docker(["wait", name]);
    await audit(run);
    if (kill % 50 === 0) process.stderr.write(`${world.driver}, seed ${seed}: ${kill} kills: ${figures(world)}\n`);
  }
}

/** Every snapshot has what it had; then all is removed, and nothing is left. */
async function ending({ world, clients, home, place }: Run): Promise<void> {
  const { daemon } = world;
  const all = clients.flatMap(({ volumes }) => [...volumes]);
  const kept = all.flatMap(([volume, { snapshots }]) =>
    [...snapshots].map(([snapshot, content], index) => ({
      volume,
      snapshot,
      content,
      clone: `${volume}-kept${index}`,
    })),
  );
  const strata = new URL("../bin/strata", import.meta.url).pathname;
  for (const { volume, snapshot, clone } of kept)
    await succeed(strata, ["volume", "clone", `${volume}@${snapshot}`, clone, "-H", daemon.host]);
  const found = await contents(
    world,
    kept.map(({ clone }) => clone),
  );
  for (const { clone, content, snapshot } of kept) {
    const files = found.get(clone) ?? new Set();
    assert.deepEqual([...content.must.difference(files)], [], `${snapshot} lacks files`);
    assert.deepEqual([...files.difference(content.may)], [], `${snapshot} has files that are younger`);
  }
  const containers = clients.flatMap((client) => [...client.containers.keys()]);
  if (containers.length > 0) await daemon.ok(["rm", "-f", ...containers]);
  const volumes = [...all.map(([name]) => name), ...kept.map(({ clone }) => clone)];
  if (volumes.length > 0) await daemon.ok(["volume", "rm", "-f", ...volumes]);
  assert.equal(await daemon.ok(["volume", "ls", "-q"]), "");
  assert.deepEqual(await home.leftovers(new Map(), place.dataRoot), []);
  assert.deepEqual(readdirSync(folderOf(place.dataRoot, world.driver)), []);
  assert.deepEqual(mountsBelow(place.dataRoot), []);
  await daemon.stop();
  assert.deepEqual(mountsBelow(place.root), []);
  assert.deepEqual(await problemsOf(daemon), []);
  assert.deepEqual(processesBelow(place.root), []);
}

const figures = ({ acknowledged, doubted }: VolumeWorld): string =>
  [acknowledged, doubted]
    .map((map) => [...map].map(([what, count]) => `${count} ${what}`).join(", "))
    .join("; in doubt: ");

const cases = [
  { driver: "btrfs", makeHome: btrfs, why: false },
  { driver: "zfs", makeHome: zfs, why: cannotMakePool() },
] as const;

describe("kills at random under volumes lose nothing that was acknowledged and leak nothing", { skip }, () => {
  const scratch = scratchFolder();
  const tar = join(scratch.path, "box.tar");
  before(() => busyboxTar(tar));
  after(() => scratch[Symbol.dispose]());

  for (const { driver, makeHome, why } of cases.filter((one) => asked?.includes(one.driver) ?? true))
    test(`${driver}: ${kills} kills (seed ${seed})`, { timeout: 14_400_000, skip: why }, async (t) => {
      await using home = await makeHome();
      const root = join(scratch.path, driver);
      mkdirSync(root);
      const place = { root, dataRoot: join(home.path ?? root, "data"), driver };
      const daemon = await start(place);
      const random = seededRandom(seed);
      const { optionsFor } = home;
      const counts = { acknowledged: new Map(), doubted: new Map() };
      const world: VolumeWorld = { daemon, driver, random, optionsFor, dying: false, ...counts };
      const clients = ["a", "b", "c"].map((name) => new VolumeClient(world, name));
      try {
        await daemon.ok(["import", tar, image]);
        await ordeal({ world, clients, home, place });
        await ending({ world, clients, home, place });
        t.diagnostic(`${kills} kills: ${figures(world)}; seed ${seed}`);
      } catch (error) {
        t.diagnostic(`${figures(world)}\n${world.daemon.log().slice(-3000)}`);
        throw error;
      } finally {
        // After a failure too, the machine gets back what the engine left.
        await world.daemon.kill();
        endProcesses(root);
        await unmountBelow(root);
        await unmountBelow(place.dataRoot);
      }
    });
});
