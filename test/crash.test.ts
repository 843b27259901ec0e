/**
 * kill -9 of the daemon at random moments during import, build, run and rm. After each restart every acknowledged object
 * is there, every acknowledged removal held, nothing half-made is visible, running containers still run; at the end no
 * mount, directory or process is left. `STRATA_KILLS` sets how often, `STRATA_SEED` repeats a run.
 */
import assert from "node:assert/strict";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { busyboxTar, type Daemon, scratchFolder, startStrata, unmountBelow } from "./support/engine.ts";
import { type Kind, Ledger, listed } from "./support/ledger.ts";
import { seededRandom } from "./support/random.ts";

const kills = Number(process.env.STRATA_KILLS ?? 50);
const seed = Number(process.env.STRATA_SEED ?? Date.now() % 2 ** 31);

const random = seededRandom(seed);
const pick = <T>(from: readonly T[]): T | undefined => from[Math.floor(random() * from.length)];

type World = {
  daemon: Daemon;
  readonly root: string;
  readonly ledger: Ledger;
  readonly tar: string;
  readonly context: string;
  count: number;
};

async function make(world: World, kind: Kind, name: string, args: readonly string[]): Promise<void> {
  world.ledger.begin(kind, name);
  const { code } = await world.daemon.docker(args);
  if (code === 0) world.ledger.made(kind, name);
}

async function take(world: World, kind: Kind, args: readonly string[]): Promise<void> {
  const name = pick(world.ledger.present(kind).filter((one) => one !== "busybox:latest"));
  if (name === undefined) return;
  world.ledger.beginRemoval(kind, name);
  const { code } = await world.daemon.docker([...args, name]);
  if (code === 0) world.ledger.removed(kind, name);
}

/** One client's work until the daemon goes. */
async function work(world: World, until: AbortSignal): Promise<void> {
  while (!until.aborted) {
    const id = `k${world.count++}`;
    const acts: readonly (() => Promise<void>)[] = [
      () => make(world, "image", `imp:${id}`, ["import", world.tar, `imp:${id}`]),
      () =>
        make(world, "image", `built:${id}`, [
          "build",
          "-q",
          "--build-arg",
          `N=${id}`,
          "-t",
          `built:${id}`,
          world.context,
        ]),
      () => make(world, "container", id, ["run", "-d", "--name", id, "busybox", "sleep", "1000"]),
      () =>
        make(world, "container", id, [
          "run",
          "--name",
          id,
          "-v",
          `vol-${id}:/data`,
          "busybox",
          "sh",
          "-c",
          "echo x >/f; echo y >/data/g",
        ]),
      () => make(world, "container", id, ["create", "--name", id, "busybox", "true"]),
      () => make(world, "volume", `named-${id}`, ["volume", "create", `named-${id}`]),
      () => take(world, "container", ["rm", "-f"]),
      () => take(world, "container", ["rm", "-f"]),
      () => take(world, "image", ["rmi", "-f"]),
      () => take(world, "volume", ["volume", "rm"]),
    ];
    const act = pick(acts);
    if (act !== undefined) await act();
  }
}

async function audit(world: World): Promise<void> {
  const complaints: string[] = [];
  const volumes = new Set([...(await listed(world.daemon, "volume"))].filter((name) => name.startsWith("named-")));
  complaints.push(...world.ledger.reconcile("volume", volumes));
  complaints.push(...world.ledger.reconcile("image", await listed(world.daemon, "image")));
  complaints.push(...world.ledger.reconcile("container", await listed(world.daemon, "container")));
  for (const kind of ["image", "container"] as const) {
    const names = world.ledger.present(kind);
    if (names.length === 0) continue;
    const { code, stderr } = await world.daemon.docker([kind, "inspect", ...names]);
    if (code !== 0) complaints.push(`inspect of ${kind}s: ${stderr}`);
  }
  assert.deepEqual(complaints, [], `seed ${seed}\n${world.daemon.log().slice(-3000)}`);
}

const mountsBelow = (path: string): string[] =>
  readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .filter((line) => line.includes(path));

async function clearAll(world: World): Promise<void> {
  for (const name of await listed(world.daemon, "container")) await world.daemon.ok(["rm", "-f", "-v", name]);
  for (const name of await listed(world.daemon, "volume")) await world.daemon.ok(["volume", "rm", name]);
  const ids = (await world.daemon.ok(["images", "-aq"])).split("\n").filter((id) => id !== "");
  for (const id of new Set(ids)) await world.daemon.docker(["rmi", "-f", id]);
  assert.equal(await world.daemon.ok(["images", "-aq"]), "", "every image can be removed");
}

test(`${kills} kills at random lose nothing that was acknowledged and leak nothing (seed ${seed})`, {
  timeout: 900_000,
}, async (run) => {
  using scratch = scratchFolder();
  const context = join(scratch.path, "context");
  mkdirSync(context);
  writeFileSync(
    join(context, "Dockerfile"),
    "FROM busybox\nARG N\nCOPY Dockerfile /d\nRUN echo $N >/n && mkdir /m && cp /bin/busybox /m/\nRUN rm -r /m\nCMD cat /n\n",
  );
  const tar = await busyboxTar(join(scratch.path, "busybox.tar"));
  const root = join(scratch.path, "strata");
  const world: World = { daemon: await startStrata({ root }), root, ledger: new Ledger(), tar, context, count: 0 };
  try {
    await ordeal(world, scratch.path);
  } catch (error) {
    run.diagnostic(String(error));
    throw error;
  } finally {
    // After a failure too, the machine gets back what the engine left.
    await world.daemon.kill();
    for (const { pid } of processesBelow(scratch.path)) process.kill(pid, "SIGKILL");
    await unmountBelow(scratch.path);
  }
});

async function ordeal(world: World, scratch: string): Promise<void> {
  await make(world, "image", "busybox:latest", ["import", world.tar, "busybox:latest"]);
  for (let kill = 0; kill < kills; kill++) {
    const stop = new AbortController();
    const clients = [work(world, stop.signal), work(world, stop.signal), work(world, stop.signal)];
    await sleep(30 + random() * 900);
    stop.abort();
    await world.daemon.kill();
    await Promise.all(clients);
    world.daemon = await startStrata({ root: world.root });
    await audit(world);
  }
  for (const name of world.ledger.present("image")) {
    const { code, stdout, stderr } = await world.daemon.docker(["run", "--rm", name, "sh", "-c", "echo alive"]);
    assert.equal(`${code} ${stdout.trim()}`, "0 alive", `${name}: ${stderr}`);
  }
  await clearAll(world);
  await world.daemon.stop();
  assert.deepEqual(mountsBelow(scratch), [], "no mount is leaked");
  world.daemon = await startStrata({ root: world.root });
  await sleep(1000);
  await world.daemon.stop();
  const driver = join(world.daemon.dataRoot, "overlay2");
  const left = readdirSync(driver, { recursive: true }).filter(
    (name) => !["staging", "trash", "empty"].includes(String(name)),
  );
  assert.deepEqual(left, [], "no layer directory is orphaned");
  assert.deepEqual(processesBelow(scratch), [], "no process is left");
}

/** Processes whose command line names the scratch folder. */
function processesBelow(path: string): { readonly pid: number; readonly line: string }[] {
  const found: { pid: number; line: string }[] = [];
  for (const name of readdirSync("/proc").filter((entry) => /^\d+$/.test(entry))) {
    try {
      const line = readFileSync(`/proc/${name}/cmdline`, "utf8").replaceAll("\0", " ");
      if (Number(name) !== process.pid && line.includes(path)) found.push({ pid: Number(name), line });
    } catch {
      // ended meanwhile
    }
  }
  return found;
}
