/** `pause` and `unpause`, with Docker's refusals. */
import { EngineError } from "../base/errors.ts";
import { type Context, emit } from "./context.ts";
import type { Entry, Run } from "./entry.ts";
import { writeVolatile } from "./run.ts";

const conflict = (message: string): EngineError => new EngineError("conflict", message);

export function pauseContainer(context: Context, entry: Entry): Promise<void> {
  return entry.lock.run(() => pauseLocked(context, entry));
}

export function unpauseContainer(context: Context, entry: Entry): Promise<void> {
  return entry.lock.run(() => unpauseLocked(context, entry));
}

/** Stands still for the engine's own work; `unpauseLocked` ends it, and so does the next start of the engine. */
export function holdContainer(context: Context, entry: Entry): Promise<void> {
  return entry.lock.run(() => holdLocked(context, entry));
}

/** The caller holds the container's lock. */
export async function holdLocked(context: Context, entry: Entry): Promise<void> {
  const run = pausable(entry);
  run.held = true;
  await freeze(context, entry, run);
}

/** The caller holds the container's lock. */
export async function pauseLocked(context: Context, entry: Entry): Promise<void> {
  const run = pausable(entry);
  run.held = false;
  await freeze(context, entry, run);
}

function pausable(entry: Entry): Run {
  if (entry.phase.kind === "restarting")
    throw conflict(`Container ${entry.id} is restarting, wait until the container is running`);
  const run = entry.runOr(`container ${entry.id} is not running`);
  if (run.paused) throw conflict(`Container ${entry.id} is already paused`);
  return run;
}

/** The wish is noted first: what is found frozen without one was frozen by an engine that was killed. */
async function freeze(context: Context, entry: Entry, run: Run): Promise<void> {
  run.paused = true;
  try {
    await writeVolatile(context, entry, run);
    await context.runtime.pause(entry.id);
  } catch (error) {
    run.paused = false;
    await writeVolatile(context, entry, run).catch(() => undefined);
    throw error;
  }
  emit(context, entry, "pause");
}

/** The caller holds the container's lock. */
export async function unpauseLocked(context: Context, entry: Entry): Promise<void> {
  const { run } = entry;
  if (run?.paused !== true) throw conflict(`Container ${entry.id} is not paused`);
  await context.runtime.resume(entry.id);
  run.paused = false;
  await writeVolatile(context, entry, run);
  emit(context, entry, "unpause");
}
