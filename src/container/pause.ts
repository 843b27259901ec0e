/** `pause` and `unpause`, with Docker's refusals. */
import { EngineError } from "../base/errors.ts";
import { type Context, emit } from "./context.ts";
import type { Entry } from "./entry.ts";
import { writeVolatile } from "./run.ts";

const conflict = (message: string): EngineError => new EngineError("conflict", message);

export function pauseContainer(context: Context, entry: Entry): Promise<void> {
  return entry.lock.run(() => pauseLocked(context, entry));
}

export function unpauseContainer(context: Context, entry: Entry): Promise<void> {
  return entry.lock.run(() => unpauseLocked(context, entry));
}

/** The caller holds the container's lock. */
export async function pauseLocked(context: Context, entry: Entry): Promise<void> {
  if (entry.phase.kind === "restarting")
    throw conflict(`Container ${entry.id} is restarting, wait until the container is running`);
  const run = entry.runOr(`container ${entry.id} is not running`);
  if (run.paused) throw conflict(`Container ${entry.id} is already paused`);
  await context.runtime.pause(entry.id);
  run.paused = true;
  await writeVolatile(context, entry, run);
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
