/** The beginning of a run as the engine sees it, whether it started the process itself or found it running. */

import { isError } from "../base/errors.ts";
import type { ExitStatus } from "../runtime/runtime.ts";
import { type Context, timestamp } from "./context.ts";
import type { Entry, Run } from "./entry.ts";

export type RunStart = {
  readonly pid: number;
  readonly startedAt: number;
  readonly rootfs: string;
  readonly paused: boolean;
  readonly stopRequested: boolean;
};

/** `finish` handles the exit under the container's lock. */
export function beginRun(
  context: Context,
  entry: Entry,
  start: RunStart & { readonly finish: (run: Run, status: ExitStatus) => Promise<void> },
): Run {
  const exit = Promise.withResolvers<void>();
  const { promise: ended, resolve } = Promise.withResolvers<void>();
  const { finish, ...facts } = start;
  const run: Run = { ...facts, autoRemove: entry.record.hostConfig.AutoRemove === true, exited: exit.promise, ended };
  entry.phase = { kind: "running", run };
  const handle = (status: ExitStatus): void => {
    if (context.closing.aborted) return;
    const work = entry.lock.run(() => {
      // The new state is there before anything of it is waited for.
      const finished = finish(run, status);
      exit.resolve();
      return finished;
    });
    context.background.start(`finish the run of container ${entry.id}`, work.finally(resolve));
  };
  context.runtime.exited(entry.id).then(handle, (error: unknown) => {
    if (context.closing.aborted) return;
    context.background.start(`watch container ${entry.id}`, Promise.reject(error));
    // Nobody can say any more how it ended: better so than a container that seems to run for ever.
    if (isError(error, "not_found")) handle({ code: 255, oomKilled: false, at: Date.now() });
  });
  return run;
}

/** What a later engine must know of this run; not durable. */
export async function writeVolatile(context: Context, entry: Entry, run: Run): Promise<void> {
  await context.volatile.write(entry.id, {
    startedAt: timestamp(run.startedAt),
    paused: run.paused && run.held !== true,
    restartCount: entry.saved.restartCount,
    stoppedByUser: run.stopRequested,
  });
}
