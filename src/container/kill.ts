/** Signals to a container: `kill`, and the way in which `stop` and a forced removal end one. */
import { constants } from "node:os";
import { EngineError, isError } from "../base/errors.ts";
import { type Context, emit } from "./context.ts";
import { within } from "./deadline.ts";
import type { Entry, Run } from "./entry.ts";
import { cancelRestart } from "./restart.ts";
import { parseSignal } from "./signal-name.ts";

const { SIGKILL, SIGTERM } = constants.signals;
/** Milliseconds after which a killed container that does not end is an error (a process in state D). */
const killDeadline = 10_000;

/** Signal number that stops the container: the config's, or SIGTERM. */
export function stopSignalOf(entry: Entry, given?: string): number {
  const text = given || entry.record.config.StopSignal;
  return text === undefined || text === "" ? SIGTERM : parseSignal(text);
}

/** Sends one signal. False when the process is gone already. A paused container is resumed, or it would never see it. */
export async function sendSignal(context: Context, entry: Entry, run: Run, signal: number): Promise<boolean> {
  const isLast = signal === SIGKILL || signal === stopSignalOf(entry);
  if (isLast) run.stopRequested = true;
  try {
    await context.runtime.kill(entry.id, signal);
    if (run.paused && isLast) {
      await context.runtime.resume(entry.id);
      run.paused = false;
    }
  } catch (error) {
    if (!isError(error, "not_found")) throw error;
    return false;
  }
  emit(context, entry, "kill", { signal: String(signal) });
  return true;
}

/** Milliseconds for giving back what an ended run had: a volume plugin may hang. */
const giveBackDeadline = 10_000;

/** Waits for the end of the run's process, and then a moment until everything of it is given back. False when it goes on. */
export async function ends(run: Run, deadline: number): Promise<boolean> {
  if (!(await within(deadline, run.exited))) return false;
  await within(giveBackDeadline, run.ended);
  return true;
}

/** SIGKILL, and waits for the end. */
export async function killAndWait(context: Context, entry: Entry, run: Run): Promise<void> {
  run.stopRequested = true;
  await sendSignal(context, entry, run, SIGKILL);
  if (!(await ends(run, killDeadline)))
    throw new EngineError(
      "deadline_exceeded",
      `container ${entry.id} was killed but has not ended: a process of it may hang in the kernel`,
    );
}

/** `docker kill`. Throws conflict when the container does not run. */
export async function killContainer(context: Context, nameOrId: string, text: string | undefined): Promise<void> {
  const entry = context.entries.get(nameOrId);
  const signal = parseSignal(text === undefined || text === "" ? "KILL" : text);
  if (await cancelRestart(context, entry)) return;
  const run = entry.runOr(`cannot kill container: ${nameOrId}: container ${entry.id} is not running`);
  if (signal === SIGKILL) await killAndWait(context, entry, run);
  else await sendSignal(context, entry, run, signal);
}
