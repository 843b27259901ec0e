/**
 * `stop` and `restart`. Waiting for the process holds no lock, so that a kill, or an exit, can come between.
 */
import { type Context, emit } from "./context.ts";
import type { Entry, Run } from "./entry.ts";
import { ends, killAndWait, sendSignal, stopSignalOf } from "./kill.ts";
import { cancelRestart } from "./restart.ts";
import { startContainer } from "./start.ts";

export type StopOptions = { readonly signal?: string | undefined; readonly timeout?: number | undefined };

/** Seconds between the stop signal and SIGKILL. */
const defaultTimeout = 10;

/** False when it was not running. */
export async function stopContainer(context: Context, entry: Entry, options: StopOptions): Promise<boolean> {
  const signal = stopSignalOf(entry, options.signal);
  if (await cancelRestart(context, entry)) return true;
  const { run } = entry;
  if (run === undefined) return false;
  await endRun(context, entry, { run, signal, timeout: options.timeout });
  emit(context, entry, "stop");
  return true;
}

type Ending = { readonly run: Run; readonly signal: number; readonly timeout: number | undefined };

async function endRun(context: Context, entry: Entry, { run, signal, timeout }: Ending): Promise<void> {
  run.stopRequested = true;
  await sendSignal(context, entry, run, signal);
  if (run.paused) {
    await context.runtime.resume(entry.id);
    run.paused = false;
  }
  const seconds = timeout ?? entry.record.config.StopTimeout ?? defaultTimeout;
  if (!(await ends(run, seconds * 1000))) await killAndWait(context, entry, run);
}

/** A container that goes with its end (`--rm`) stays for this once. */
export async function restartContainer(context: Context, entry: Entry, options: StopOptions): Promise<void> {
  if (entry.run !== undefined) entry.run.autoRemove = false;
  await stopContainer(context, entry, options);
  await startContainer(context, entry);
  emit(context, entry, "restart");
}
