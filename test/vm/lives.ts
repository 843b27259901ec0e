/**
 * The story of one disk: a machine boots on it, the engine is audited, clients work, the power is cut; the next machine
 * boots on what the cut left. What a run could have left at other moments is replayed from its log.
 */
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { scratchFolder } from "../support/engine.ts";
import { audit, type Filesystem, format, mount, open, type Setup, unmount } from "./audit.ts";
import { type Blocks, DiskLog } from "./disk-log.ts";
import { History } from "./history.ts";
import type { Kernel } from "./kernel.ts";
import { firstImage, importImage, type Orders, type World, work } from "./load.ts";
import { dataDevice, Machine, MachineEnded } from "./machine.ts";
import { NbdServer } from "./nbd-server.ts";
import { ReplayAgent, writeDisk } from "./replay.ts";

export const diskSize = 2 ** 30;

export type Plan = {
  readonly kernel: Kernel;
  readonly systemDisk: string;
  readonly projectDisk: string;
  readonly filesystem: Filesystem;
  readonly driver: string;
  readonly cuts: number;
  /** Moments of each run that are replayed, beside the real cut. */
  readonly replays: number;
  readonly random: () => number;
  readonly say: (line: string) => void;
};

export type Figures = { cuts: number; flushes: number; writes: number; acknowledged: number; replays: number };

/** A failure names the cut, so that it can be told from others. */
export type Outcome = { readonly figures: Figures; readonly complaints: readonly string[] };

/** How much of what no flush covers survives a cut: nothing, everything, or each write by chance. */
const chances = [0, 1, 0.5, 0.1, 0.9] as const;

/** `since`: the engine's first moment on the disk; `from`: when its clients could begin. */
type Run = { readonly world: World; readonly since: number; readonly from: number };

/** Ends at the first complaint. */
export async function liveAndDie(plan: Plan): Promise<Outcome> {
  using scratch = scratchFolder();
  const socket = join(scratch.path, "disk.sock");
  await using disk = await NbdServer.listen(socket, diskSize);
  await using replayer = await ReplayAgent.start(join(scratch.path, "replay"));
  const figures: Figures = { cuts: 0, flushes: 0, writes: 0, acknowledged: 0, replays: 0 };
  let before: Run | undefined;
  let blocks: Blocks = new Map();
  for (;;) {
    const base = blocks;
    disk.log = new DiskLog(base);
    const options = { ...plan, folder: scratch.path, dataDisk: socket };
    await using machine = await Machine.boot(options);
    const setup = { ...plan, device: dataDevice, target: "/data" };
    const started = await begin(machine, disk.log, { plan, setup, before });
    if (started.complaints.length > 0)
      return { figures, complaints: started.complaints.map((one) => `after cut ${figures.cuts}: ${one}`) };
    if (figures.cuts === plan.cuts) return { figures, complaints: [] };
    await workUntilCut(machine, started.run.world, plan);
    figures.cuts++;
    const complaints = await replay(replayer, started.run, plan, figures);
    if (complaints.length > 0) return { figures, complaints };
    count(figures, started.run);
    plan.say(`cut ${figures.cuts}: ${JSON.stringify(figures)}`);
    before = started.run;
    blocks = disk.log.cut(disk.log.length, survivors(plan.random));
  }
}

function count(figures: Figures, { world, from }: Run): void {
  figures.flushes += world.log.flushes().length;
  figures.writes += world.log.writes();
  figures.acknowledged += world.history.acknowledged(world.log.length) - world.history.acknowledged(from);
}

/** What survives is decided write by write; one chance for the whole cut. */
function survivors(random: () => number): () => boolean {
  const chance = chances[Math.floor(random() * chances.length)] ?? 0;
  return () => random() < chance;
}

type Start = { readonly plan: Plan; readonly setup: Setup; readonly before: Run | undefined };

/** Audits what the last cut left, or makes the first disk; the engine is open then. */
async function begin(
  guest: Orders,
  log: DiskLog,
  { plan, setup, before }: Start,
): Promise<{ readonly run: Run; readonly complaints: readonly string[] }> {
  const { random } = plan;
  if (before !== undefined) {
    const last = { ...before.world, guest };
    const { complaints, listed } = await audit(last, before.world.log.length, setup);
    const world = { ...last, log, history: new History(listed) };
    if (complaints.length === 0) await open(guest, setup);
    return { run: { world, since: 0, from: log.length }, complaints };
  }
  const empty = { copied: new Map(), contents: new Map(), using: new Set<string>(), count: 0 };
  const world: World = { guest, log, history: new History(), random, ...empty };
  await format(guest, setup);
  await mount(guest, setup);
  await open(guest, setup);
  await importImage(world, firstImage);
  return { run: { world, since: log.length, from: log.length }, complaints: [] };
}

/** One to three clients; the cut comes some moments after so many answers. */
async function workUntilCut(machine: Machine, world: World, { random }: Plan): Promise<void> {
  const { history, log } = world;
  const wanted = history.acknowledged(log.length) + 4 + Math.floor(random() * 10);
  let cut = false;
  const clients = Array.from({ length: 1 + Math.floor(random() * 3) }, () =>
    work(world, () => cut).catch((error: unknown) => {
      if (!(error instanceof MachineEnded)) throw error;
    }),
  );
  const deadline = performance.now() + 1_200_000;
  const watch = async (): Promise<void> => {
    while (history.acknowledged(log.length) < wanted && performance.now() < deadline) await sleep(5);
    await sleep(random() * 600);
    cut = true;
    await machine.cut();
  };
  await Promise.all([watch(), ...clients]);
}

/** Moments just before a flush: one while the engine started, then those that follow an answer no later flush stands behind. */
function momentsOf({ world, since, from }: Run, count: number, random: () => number): number[] {
  const flushes = world.log.flushes();
  const strict = flushes.filter((moment, index) => {
    const last = flushes[index - 1] ?? from;
    return last >= from && world.history.acknowledged(moment) > world.history.acknowledged(last);
  });
  const shuffle = (moments: readonly number[]): number[] =>
    moments
      .map((moment) => ({ moment, at: random() }))
      .sort((a, b) => a.at - b.at)
      .map(({ moment }) => moment);
  const starting = shuffle(flushes.filter((moment) => moment > since && moment <= from)).slice(0, 1);
  const others = flushes.filter((moment) => moment > from && !strict.includes(moment));
  return [...starting, ...shuffle(strict), ...shuffle(others)].slice(0, count);
}

async function replay(guest: ReplayAgent, run: Run, plan: Plan, figures: Figures): Promise<string[]> {
  const device = join(guest.root, "disk");
  const setup = { ...plan, device, target: join(guest.root, "data") };
  for (const [index, moment] of momentsOf(run, plan.replays, plan.random).entries()) {
    // What was covered and nothing else is the strictest, so it comes first and most often.
    const survives = index % 3 === 2 ? survivors(plan.random) : () => false;
    writeDisk(run.world.log.cut(moment, survives), diskSize, device);
    const { complaints } = await audit({ ...run.world, guest }, moment, setup);
    await unmount(guest, setup);
    figures.replays++;
    if (complaints.length > 0)
      return complaints.map((one) => `cut ${figures.cuts}, replayed to ${moment} of ${run.world.log.length}: ${one}`);
  }
  return [];
}
