/**
 * What an engine that opens finds: containers that went on running are taken up again, those that ended meanwhile get
 * their exit code, those of an earlier boot are known to have ended, and policies start what should run. Leftovers that belong
 * to no record are taken away.
 */
import { mkdir, readdir, rm, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { isError } from "../base/errors.ts";
import { unmountAll } from "../host/mount.ts";
import { remoteMountOf } from "../host/remote-path.ts";
import { type Context, now, saveLazily, timestamp } from "./context.ts";
import { Entry } from "./entry.ts";
import { restoreExecs } from "./exec.ts";
import { finishRun, giveBackMounts, giveBackProcess, rootHolder } from "./exit.ts";
import { removeByUser } from "./force-remove.ts";
import { volumeNames } from "./mount-sources.ts";
import { decodeRow, never, selectAll } from "./record.ts";
import { removeContainer } from "./remove.ts";
import { startsAtBoot } from "./restart-policy.ts";
import { beginRun } from "./run.ts";
import { startContainer, startLocked } from "./start.ts";
import { releaseSubpath } from "./subpath.ts";
import type { VolatileState } from "./volatile-state.ts";

/** What Docker shows for a container whose end nobody saw. */
const lostExitCode = 255;

export async function restoreContainers(context: Context): Promise<void> {
  for (const row of context.database.all(selectAll)) {
    const { record, state } = decodeRow(row);
    context.entries.add(new Entry(record, state));
  }
  await context.volatile.open();
  const bundles = new Set(await context.runtime.list());
  const entries = context.entries.all();
  await Promise.all(entries.map((entry) => restore(context, entry, bundles.has(entry.id))));
  await sweep(context, bundles);
  await Promise.all(entries.filter(({ record }) => record.transient).map((entry) => removeTransient(context, entry)));
  for (const entry of entries) settle(context, entry);
}

async function restore(context: Context, entry: Entry, hasBundle: boolean): Promise<void> {
  const known = await context.volatile.read(entry.id);
  if (hasBundle && (await adopt(context, entry, known))) return;
  if (hasBundle) await giveBackProcess(context, entry);
  if (hasBundle || known !== undefined) await giveBackMounts(context, entry);
  if (entry.saved.status !== "running") return;
  const finishedAt = timestamp(now());
  saveLazily(context, entry, { ...entry.saved, status: "exited", exitCode: lostExitCode, finishedAt });
}

/** False when the bundle is only half-made and no process of it is left. */
async function adopt(context: Context, entry: Entry, known: VolatileState | undefined): Promise<boolean> {
  const { id, record } = entry;
  const pid = await context.runtime.pid(id);
  if (pid === undefined && known === undefined) return false;
  const rootfs = await context.layers.mountWritable(id, rootHolder);
  await retakeVolumes(context, record);
  const startedAt = known === undefined ? now() : Date.parse(known.startedAt);
  const { startedAt: written, restartCount } = known ?? { startedAt: timestamp(startedAt), restartCount: 0 };
  entry.saved = { ...entry.saved, status: "running", startedAt: written, restartCount, exitCode: 0, error: "" };
  const frozen = await context.runtime.frozen(id);
  const paused = frozen && known?.paused === true;
  // Frozen and nobody wished it: an engine was killed in the middle of a commit. A frozen process takes no signal either.
  if (frozen && !paused) await context.runtime.resume(id);
  beginRun(context, entry, {
    pid: pid ?? 0,
    startedAt,
    rootfs,
    paused,
    stopRequested: known?.stoppedByUser === true,
    finish: (run, status) => finishRun(context, entry, { run, status, start: () => startLocked(context, entry) }),
  });
  await restoreExecs(context, entry);
  return true;
}

/** A volume whose server is away stays under its container as it is; that its use is not known again is told. */
async function retakeVolumes({ volumes, background }: Context, record: Entry["record"]): Promise<void> {
  const taking = volumeNames(record).map(async (name) => {
    try {
      await volumes.retake(name, record.id);
    } catch (error) {
      if (!volumes.isRemote(name)) throw error;
      background.start(`take up the volume ${name} of container ${record.id}`, Promise.reject(error));
    }
  });
  await Promise.all(taking);
}

/** Nobody has seen the end of the operation that it belonged to, so nobody may see it either. */
async function removeTransient(context: Context, entry: Entry): Promise<void> {
  await removeByUser(context, entry, { force: true, volumes: true });
}

/** Starts what a policy wants running, and removes what should have gone with its end. */
function settle(context: Context, entry: Entry): void {
  if (entry.phase.kind !== "idle") return;
  const { hostConfig } = entry.record;
  const { startedAt, exitCode, stoppedByUser } = entry.saved;
  const started = startedAt !== never;
  if (startsAtBoot(hostConfig.RestartPolicy, { started, exitCode, stoppedByUser }))
    context.background.start(`start container ${entry.id} again`, startContainer(context, entry));
  else if (hostConfig.AutoRemove === true)
    context.background.start(`remove container ${entry.id}`, removeIfThere(context, entry));
}

/** Its own end may be taking it away at this moment. */
async function removeIfThere(context: Context, entry: Entry): Promise<void> {
  try {
    await removeContainer(context, entry, { force: false, volumes: true });
  } catch (error) {
    if (!isError(error, "not_found") && entry.phase.kind !== "removing") throw error;
  }
}

async function sweep(context: Context, bundles: ReadonlySet<string>): Promise<void> {
  for (const id of bundles) if (!context.entries.has(id)) await context.runtime.remove(id);
  const known = new Set(context.entries.all().map(({ id }) => id));
  await context.volatile.sweep(known);
  await sweepTrees(join(context.execRoot, "trees"));
  await sweepSubpaths(context, join(context.execRoot, "subpaths"));
  const directory = join(context.root, "containers");
  await mkdir(directory, { recursive: true, mode: 0o710 });
  for (const name of await readdir(directory))
    if (/^[0-9a-f]{64}$/.test(name) && !known.has(name))
      await rm(join(directory, name), { recursive: true, force: true });
}

async function sweepTrees(directory: string): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  for (const name of await readdir(directory)) {
    unmountAll(join(directory, name));
    // Only an empty directory goes: what is still mounted is nobody's to delete.
    await rmdir(join(directory, name));
  }
}

async function sweepSubpaths({ remote, background }: Context, directory: string): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  for (const id of await readdir(directory)) {
    const places = (await readdir(join(directory, id))).map((index) => join(directory, id, index));
    const work = async (): Promise<void> => {
      await Promise.all(places.map((place) => releaseSubpath(place, remote)));
      await rmdir(join(directory, id));
    };
    // What is served from elsewhere may take its time to go.
    if (places.every((place) => remoteMountOf(place) === undefined)) await work();
    else background.start(`take the subpaths of container ${id} away`, work());
  }
}
