/** A restart that a policy asked for: a wait, then a start, unless somebody stops or removes the container meanwhile. */
import { setTimeout as sleep } from "node:timers/promises";
import { type Context, saveLazily } from "./context.ts";
import type { Entry } from "./entry.ts";

/** `start` runs under the container's lock. */
export function scheduleRestart(context: Context, entry: Entry, delay: number, start: () => Promise<void>): void {
  const cancel = new AbortController();
  entry.phase = { kind: "restarting", cancel };
  const signal = AbortSignal.any([cancel.signal, context.closing]);
  const work = async (): Promise<void> => {
    const waited = await sleep(delay, true, { signal, ref: false }).catch(() => false);
    if (!waited) return;
    await entry.lock.run(async () => {
      if (entry.phase.kind === "restarting" && entry.phase.cancel === cancel && !signal.aborted) await start();
    });
  };
  context.background.start(`start container ${entry.id} again`, work());
}

/** True when a restart was pending and will not happen. */
export async function cancelRestart(context: Context, entry: Entry): Promise<boolean> {
  if (entry.phase.kind !== "restarting") return false;
  entry.phase.cancel.abort();
  return entry.lock.run(async () => {
    if (entry.phase.kind !== "restarting") return false;
    entry.phase = { kind: "idle" };
    saveLazily(context, entry, { ...entry.saved, status: "exited", stoppedByUser: true });
    entry.tellExit();
    return true;
  });
}
