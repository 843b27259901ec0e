/**
 * kill -9 of the daemon at random moments under load, over the storage drivers. After each restart every acknowledged object
 * is there, every acknowledged removal held, nothing half-made is visible and `strata check` finds records, directories and
 * digests in agreement; at the end no mount, directory or process is left. `STRATA_KILLS` sets how often in all (500 in
 * `npm run test:crash`), `STRATA_CRASH_DRIVERS` names drivers, `STRATA_SEED` repeats a run.
 */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { storageDrivers } from "../src/storage-driver/list.ts";
import { loopHome } from "../src/storage-driver/scratch-home.ts";
import { cannotMakePool, zfsHome } from "../src/storage-driver/zfs/zfs-pool.fixture.ts";
import { problemsOf } from "./support/check.ts";
import { baseImage, type Goods, make, makeGoods, makeWorld, type World, work } from "./support/crash-load.ts";
import { scratchFolder, startStrata, unmountBelow } from "./support/engine.ts";
import { inspectFailure, listed } from "./support/ledger.ts";
import { endProcesses, processesBelow } from "./support/processes.ts";
import { seededRandom } from "./support/random.ts";

const kills = Number(process.env.STRATA_KILLS ?? 40);
const seed = Number(process.env.STRATA_SEED ?? Date.now() % 2 ** 31);
const asked = process.env.STRATA_CRASH_DRIVERS?.split(",");

type Case = {
  readonly driver: string;
  /** Its part of the kills. */
  readonly share: number;
  /** A filesystem of its own for the data root. */
  readonly home?: () => Promise<AsyncDisposable & { readonly path: string }>;
  /** Also in the short form, where every second counts. */
  readonly short: boolean;
  readonly skip?: string | false;
};

const cases: readonly Case[] = [
  { driver: "overlay2", share: 4, short: true },
  { driver: "vfs", share: 2, short: true },
  { driver: "btrfs", share: 2, short: true, home: () => loopHome("btrfs") },
  { driver: "fuse-overlayfs", share: 1, short: false },
  { driver: "zfs", share: 1, short: true, home: zfsHome, skip: cannotMakePool() },
];

const isLong = process.env.STRATA_KILLS !== undefined;
const chosen = cases.filter(({ driver, short }) => asked?.includes(driver) ?? (isLong || short));
const shares = chosen.reduce((sum, { share }) => sum + share, 0);

async function audit(world: World): Promise<void> {
  const { daemon, ledger } = world;
  const complaints: string[] = [];
  const volumes = new Set([...(await listed(daemon, "volume"))].filter((name) => name.startsWith("named-")));
  complaints.push(...ledger.reconcile("volume", volumes));
  complaints.push(...ledger.reconcile("image", await listed(daemon, "image")));
  complaints.push(...ledger.reconcile("container", await listed(daemon, "container")));
  for (const kind of ["image", "container", "volume"] as const) {
    const failures = await Promise.all(ledger.present(kind).map((name) => inspectFailure(daemon, kind, name)));
    complaints.push(...failures.filter((failure) => failure !== undefined));
  }
  assert.deepEqual(complaints, [], `seed ${seed}\n${daemon.log().slice(-3000)}`);
}

/** A stopped engine's records, directories and digests agree. */
async function check({ daemon }: World): Promise<void> {
  assert.deepEqual(await problemsOf(daemon), [], `seed ${seed}`);
}

const mountsBelow = (path: string): string[] =>
  readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .map((line) => line.split(" ")[4] ?? "")
    .filter((target) => target.startsWith(`${path}/`));

async function clearAll({ daemon }: World): Promise<void> {
  for (const name of await listed(daemon, "container")) await daemon.ok(["rm", "-f", "-v", name]);
  for (const name of await listed(daemon, "volume")) await daemon.ok(["volume", "rm", name]);
  const ids = (await daemon.ok(["images", "-aq"])).split("\n").filter((id) => id !== "");
  for (const id of new Set(ids)) await daemon.docker(["rmi", "-f", id]);
  assert.equal(await daemon.ok(["images", "-aq"]), "", "every image can be removed");
}

type Place = { readonly root: string; readonly dataRoot: string; readonly driver: string };

function figures({ count, ledger }: World, done: number): string {
  const { made, removed } = ledger.acknowledged;
  return `${done} kills over ${count} acts; of ${made} makings and ${removed} removals acknowledged none was lost`;
}

/** So much work is done on any machine; the kill comes at some moment of what is under way then. */
async function someAnswers({ ledger, random }: World): Promise<void> {
  const wanted = ledger.answers + Math.floor(random() * 7);
  for (let tries = 0; ledger.answers < wanted && tries < 2000; tries++) await sleep(10);
  await sleep(random() * 300);
}

/** Every restart is audited; the start that follows every tenth kill is looked at from outside, too. */
async function ordeal(world: World, place: Place, count: number): Promise<void> {
  await make(world, "image", baseImage, ["import", world.goods.tar, baseImage]);
  for (let kill = 1; kill <= count; kill++) {
    const stop = new AbortController();
    const clients = [work(world, stop.signal), work(world, stop.signal), work(world, stop.signal)];
    await someAnswers(world);
    stop.abort();
    await world.daemon.kill();
    await Promise.all(clients);
    world.daemon = await startStrata(place);
    await audit(world);
    if (kill % 10 !== 0) continue;
    await world.daemon.stop();
    await check(world);
    if (isLong) process.stderr.write(`${place.driver}, seed ${seed}: ${figures(world, kill)} (of ${count})\n`);
    world.daemon = await startStrata(place);
  }
  for (const name of world.ledger.present("image")) {
    const { code, stdout, stderr } = await world.daemon.docker(["run", "--rm", name, "sh", "-c", "echo alive"]);
    assert.equal(`${code} ${stdout.trim()}`, "0 alive", `${name}: ${stderr}`);
  }
}

/** Everything is removed; after one more start nothing is left. */
async function ending(world: World, place: Place): Promise<void> {
  await clearAll(world);
  await world.daemon.stop();
  assert.deepEqual(mountsBelow(place.root), [], "no mount is leaked");
  world.daemon = await startStrata(place);
  // What was removed is moved there; a dataset goes from where it stands.
  const waiting = ["trash", "graph"].map((name) => join(place.dataRoot, place.driver, name));
  const isSwept = (): boolean => waiting.every((folder) => !existsSync(folder) || readdirSync(folder).length === 0);
  for (let tries = 0; tries < 600 && !isSwept(); tries++) await sleep(100);
  await sleep(500);
  await world.daemon.stop();
  await check(world);
  // Where trees are datasets they are mounted for as long as they are there.
  assert.deepEqual(mountsBelow(place.dataRoot), [], "no tree is left");
  const own = ["staging", "trash", "empty", "dir", "subvolumes", "graph"];
  const left = readdirSync(join(place.dataRoot, place.driver), { recursive: true }).filter(
    (name) => !own.includes(String(name)),
  );
  assert.deepEqual(left, [], "no layer directory is orphaned");
  assert.deepEqual(processesBelow(place.root), [], "no process is left");
}

describe("kills at random lose nothing that was acknowledged and leak nothing", () => {
  const scratch = scratchFolder();
  let goods: Goods;
  before(async () => {
    goods = await makeGoods(scratch.path);
  });
  after(() => scratch[Symbol.dispose]());

  for (const [index, { driver, share, home, skip = false }] of chosen.entries()) {
    const offered = storageDrivers.some(({ name }) => name === driver);
    const count = Math.max(1, Math.round((kills * share) / shares));
    const why = offered ? skip : `${driver} is not offered`;
    test(`${driver}: ${count} kills (seed ${seed})`, {
      timeout: isLong ? 14_400_000 : 3_600_000,
      skip: why,
    }, async (run) => {
      await using lent = home === undefined ? undefined : await home();
      const root = join(scratch.path, driver);
      mkdirSync(root);
      const place = { root, dataRoot: join(lent?.path ?? root, "data"), driver };
      const world = makeWorld({
        daemon: await startStrata(place),
        driver,
        random: seededRandom(seed + index),
        goods,
      });
      try {
        await ordeal(world, place, count);
        await ending(world, place);
        run.diagnostic(`${figures(world, count)}; no mount, directory or process was left; seed ${seed}`);
      } catch (error) {
        run.diagnostic(String(error));
        throw error;
      } finally {
        // After a failure too, the machine gets back what the engine left.
        await world.daemon.kill();
        endProcesses(root);
        await unmountBelow(join(root, "exec"));
      }
    });
  }
});
