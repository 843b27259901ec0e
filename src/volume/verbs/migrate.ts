/**
 * `migrate`: a volume moves to another driver. Passes while its containers go on; then those that run are stopped, a last pass
 * and a comparison of everything, one transaction that names the new driver, and they are started again. Only then the old data goes.
 *
 * A row says where data of the volume are besides its own: a half copy before the switch, the old data after it. After a crash the
 * same command goes on with the half copy; start-up starts what was stopped and removes what is old.
 */
import { type MirrorRun, mirrorOf } from "../../archive/mirror.ts";
import { EngineError, errorMessage } from "../../base/errors.ts";
import type { VolumeDriver } from "../../volume-driver/driver.ts";
import { longPoolFor } from "../context.ts";
import { isLost } from "../foreign.ts";
import { useVolume } from "../mount.ts";
import { dropMove } from "../moves.ts";
import { ownSnapshots } from "../snapshots.ts";
import type { Volume } from "../store.ts";
import type { Held } from "../users.ts";
import { findMove, listMoves, type Move, movedStatement, putMove } from "../verb-records.ts";
import type { MigrateReport, VolumeVerbs, VolumeWork } from "../verbs.ts";
import { subject, type VerbContext } from "./context.ts";
import { progressOf } from "./copy-content.ts";

type Options = Volume["options"];
type Moving = {
  readonly volume: Volume;
  readonly driver: VolumeDriver;
  readonly options: Options;
  readonly work: VolumeWork;
  /** Goes on with what a crash left. */
  readonly resumed: boolean;
};

/** How often containers that were started meanwhile are stopped again. */
const mostStops = 3;

export async function migrateVolume(
  context: VerbContext,
  ...[name, to, work = {}]: Parameters<VolumeVerbs["migrate"]>
): Promise<MigrateReport> {
  using _busy = context.busy.begin(name, "migrate", { alone: true });
  const began = performance.now();
  const volume = await subject(context, name);
  const driver = await context.drivers.open(to.driver);
  const options = to.options ?? {};
  await refuse(context, volume, driver);
  driver.validate({ name, options });
  const resumed = await begin(context, volume, { driver, options });
  const stopped = new Map<string, string>();
  const moving = { volume, driver, options, work, resumed };
  const { bytes, downtime } = await move(context, moving, stopped);
  const left = await dropMove(context, name).catch(errorMessage);
  const seconds = (performance.now() - began) / 1000;
  const report = { from: volume.driver, to: driver.name, bytes, stopped: [...stopped.values()], downtime, seconds };
  return typeof left === "string" ? { ...report, oldDataLeft: left } : report;
}

/** What cannot be moved, before anything is done. */
async function refuse(context: VerbContext, volume: Volume, driver: VolumeDriver): Promise<void> {
  const { name } = volume;
  const no = (why: string): EngineError => new EngineError("conflict", `cannot migrate volume ${name}: ${why}`);
  if (driver.name === volume.driver)
    throw no(`it is on ${driver.name} already (strata volume update changes options, strata volume clone copies)`);
  const own = await ownSnapshots(context, volume);
  const kept = (await own?.snapshots.list(own.spec)) ?? [];
  if (kept.length > 0)
    throw no(
      `${volume.driver} keeps snapshots of it (${kept.map((one) => one.name).join(", ")}), which cannot move: remove them first`,
    );
  for (const user of context.users.of(name)) {
    const runs = ["running", "paused", "restarting"].includes(user.status);
    if (runs && user.goesWithItsEnd)
      throw no(`container ${user.name} runs with it and would go with its stop (--rm): stop it first`);
    if (user.status === "paused") throw no(`container ${user.name} is paused: unpause or stop it first`);
  }
}

type Target = { readonly driver: VolumeDriver; readonly options: Options };

/** The intent on record and an empty volume at the target; true when a half copy was there for the same target. */
async function begin(context: VerbContext, { name }: Volume, { driver, options }: Target): Promise<boolean> {
  const left = findMove(context.database, name);
  if (left?.state === "copying" && left.driver === driver.name && sameOptions(left.options, options)) {
    await driver.create({ name, options });
    return true;
  }
  await dropMove(context, name);
  if (!(await isLost(driver, { ...noVolume, name, driver: driver.name, options })))
    throw new EngineError("conflict", `the driver ${driver.name} has a volume ${name} already`);
  await context.database.transact([
    putMove({ volume: name, driver: driver.name, options, state: "copying", stopped: [] }),
  ]);
  try {
    await driver.create({ name, options });
  } catch (error) {
    await dropMove(context, name);
    throw error;
  }
  return false;
}

const noVolume = { labels: {}, anonymous: false, createdAt: "", mountpoint: "", scope: "local" } as const;

const sameOptions = (a: Options, b: Options): boolean =>
  Object.keys(a).length === Object.keys(b).length && Object.entries(a).every(([key, value]) => b[key] === value);

type Moved = { readonly bytes: number; readonly downtime: number };

/** Containers run again when it settles, whichever way; what failed has left the volume where it was. */
async function move(context: VerbContext, moving: Moving, stopped: Map<string, string>): Promise<Moved> {
  const { name } = moving.volume;
  let stoppedAt = 0;
  const stop = async (): Promise<void> => {
    stoppedAt ||= performance.now();
    await stopRunning(context, moving, stopped);
  };
  let bytes: number;
  try {
    bytes = await copyAndSwitch(context, moving, stop);
  } catch (error) {
    await startAgain(context, name, stopped).catch(() => undefined);
    await dropMove(context, name).catch(() => undefined);
    throw error;
  }
  await startAgain(context, name, stopped);
  return { bytes, downtime: stopped.size === 0 ? 0 : (performance.now() - stoppedAt) / 1000 };
}

async function startAgain(context: VerbContext, name: string, stopped: ReadonlyMap<string, string>): Promise<void> {
  if (stopped.size === 0) return;
  const started = context.users.start([...stopped.keys()]);
  await started.finally(async () => {
    const left = findMove(context.database, name);
    if (left !== undefined) await context.database.transact([putMove({ ...left, stopped: [] })]);
  });
}

/** Who they are is on record before the first one stops. */
async function stopRunning(context: VerbContext, moving: Moving, stopped: Map<string, string>): Promise<void> {
  const { volume, driver, options } = moving;
  const running = context.users.of(volume.name).filter(({ status }) => status === "running" || status === "restarting");
  if (running.length === 0) return;
  const going = running.find(({ goesWithItsEnd }) => goesWithItsEnd);
  if (going !== undefined)
    throw inUse(volume.name, `container ${going.name} would go with its stop (--rm): stop it first`);
  for (const { id, name } of running) stopped.set(id, name);
  const row: Move = {
    volume: volume.name,
    driver: driver.name,
    options,
    state: "copying",
    stopped: [...stopped.keys()],
  };
  await context.database.transact([putMove(row)]);
  await context.users.stop(running.map(({ id }) => id));
}

async function copyAndSwitch(context: VerbContext, moving: Moving, stop: () => Promise<void>): Promise<number> {
  const { volume, driver, options, work, resumed } = moving;
  const spec = { name: volume.name, options };
  await using source = await useVolume(context, volume.name);
  const target = await driver.mount(spec, "migrate");
  await using stack = new AsyncDisposableStack();
  stack.defer(() => driver.unmount(spec, "migrate"));
  const pool = longPoolFor(context, volume, { ...volume, driver: driver.name, options });
  const { signal } = work;
  const run = stack.use(mirrorOf({ pool, source: source.path, target, fresh: !resumed, signal }));
  const bytes = await livePasses(run, { source: source.path, pool, work });
  for (let tries = 1; ; tries++) {
    await stop();
    await using held = await context.users.hold(volume.name, { freeze: false });
    if (held.running.length === 0)
      return bytes + (await context.locks.run(volume.name, () => lastPass(context, moving, { run, held })));
    if (tries === mostStops) throw inUse(volume.name, "containers that use it are started again and again");
  }
}

const inUse = (name: string, why: string): EngineError =>
  new EngineError("conflict", `cannot migrate volume ${name}: ${why}`);

/** The copy, and then a reading of both sides, so that the last pass has little to do. */
async function livePasses(run: MirrorRun, copy: Parameters<typeof progressOf>[0]): Promise<number> {
  const copying = await progressOf(copy, "copying");
  const { copied: bytes } = await run.live(copying.passed);
  const comparing = await progressOf(copy, "comparing");
  const { copied } = await run.pass({ kind: "live", thorough: true }, comparing.passed);
  return bytes + copied;
}

type Last = { readonly run: MirrorRun; readonly held: Held };

/** Nobody uses the volume, and nobody can begin to: the caller holds its containers and its lock. */
async function lastPass(context: VerbContext, moving: Moving, { run, held }: Last): Promise<number> {
  const { volume, driver, options, work } = moving;
  const { name } = volume;
  if ((context.uses.get(name)?.size ?? 0) > 0) throw inUse(name, "somebody has it mounted");
  const tell = work.progress;
  const { copied } = await run.pass({ kind: "still" }, (at) => tell?.({ step: "copying the rest", ...at }));
  const { different } = await run.pass({ kind: "compare" }, (at) => tell?.({ step: "comparing the rest", ...at }));
  if (different.length > 0)
    throw new EngineError(
      "data_loss",
      `the copy of volume ${name} differs at ${different.join(", ")}: it was given up`,
    );
  work.signal?.throwIfAborted();
  const { mountpoint = "" } = await driver.describe({ name, options });
  const moved = held.moved({ driver: driver.name, mountpoint });
  const { stopped = [] } = findMove(context.database, name) ?? {};
  await context.database.transact([
    movedStatement(name, { driver: driver.name, options, scope: driver.traits.scope, mountpoint }),
    putMove({ volume: name, driver: volume.driver, options: volume.options, state: "moved", stopped }),
    ...moved.statements,
  ]);
  moved.written();
  context.whole.delete(name);
  context.events.emit("volume", "migrate", name, { driver: driver.name, oldDriver: volume.driver });
  return copied;
}

export async function cancelMigration(context: VerbContext, name: string): Promise<void> {
  using _busy = context.busy.begin(name, "migrate --cancel", { alone: true });
  await subject(context, name);
  if (findMove(context.database, name) === undefined)
    throw new EngineError("not_found", `volume ${name} has no migration that did not come to its end`);
  await context.locks.run(name, () => dropMove(context, name));
}

/** After start-up: what was stopped for a migration runs again, and what is old goes. Every one is tried. */
export async function recoverMigrations(context: VerbContext): Promise<void> {
  const failures: unknown[] = [];
  for (const left of listMoves(context.database))
    await recover(context, left).catch((error: unknown) => failures.push(error));
  if (failures.length > 0) throw failures[0];
}

async function recover(context: VerbContext, left: Move): Promise<void> {
  await startAgain(context, left.volume, new Map(left.stopped.map((id) => [id, id])));
  if (left.state !== "moved") return;
  using _busy = context.busy.begin(left.volume, "migrate", { alone: true });
  await context.locks.run(left.volume, () => dropMove(context, left.volume));
}
