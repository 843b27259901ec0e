/**
 * The end of a run: the state is kept, everything mounted for it is given back, and then the container goes (`--rm`),
 * starts again (its policy) or rests. Runs under the container's lock.
 */
import type { ExitStatus } from "../runtime/runtime.ts";
import { type Context, emit, saveLazily, timestamp } from "./context.ts";
import type { Entry, Run } from "./entry.ts";
import { unmountVolumes } from "./mount-sources.ts";
import { never, type SavedState } from "./record.ts";
import { removeLocked } from "./remove.ts";
import { scheduleRestart } from "./restart.ts";

/** Holder under which a running container has its root mounted. */
export const rootHolder = "run";

export type Finish = {
  readonly run: Run;
  readonly status: ExitStatus;
  /** Starts the container again; the lock is held. */
  readonly start: () => Promise<void>;
};

export async function finishRun(context: Context, entry: Entry, finish: Finish): Promise<void> {
  const { run, status } = finish;
  const state = endState(entry.saved, run, status);
  const ran = Math.max(0, status.at - run.startedAt);
  const tell = (): void => {
    if (status.oomKilled) emit(context, entry, "oom");
    emit(context, entry, "die", { exitCode: String(status.code), execDuration: String(Math.floor(ran / 1000)) });
  };
  if (run.autoRemove) {
    entry.saved = state;
    entry.phase = { kind: "idle" };
    tell();
    // Starting a program holds the event loop up for milliseconds: who waits for the removal is told before.
    await removeEnded(context, entry).finally(() => giveBackProcess(context, entry));
    return;
  }
  rest(context, entry, { ...finish, state, ran });
  tell();
  // Who waits for the exit is told before the mounts are gone: the lock keeps a start or removal from coming between.
  entry.tellExit();
  await Promise.all([giveBackProcess(context, entry), giveBackMounts(context, entry)]);
}

async function removeEnded(context: Context, entry: Entry): Promise<void> {
  await giveBackMounts(context, entry);
  await removeLocked(context, entry, { volumes: true });
}

/** Idle from now on, or waiting for the restart that the policy wants. */
function rest(
  context: Context,
  entry: Entry,
  { run, status, start, state, ran }: Finish & { readonly state: SavedState; readonly ran: number },
): void {
  const ending = { exitCode: status.code, ran, stoppedByUser: run.stopRequested };
  const delay = context.closing.aborted
    ? undefined
    : entry.restarts.next(entry.record.hostConfig.RestartPolicy, ending);
  if (delay === undefined) {
    entry.phase = { kind: "idle" };
    saveLazily(context, entry, state);
  } else {
    saveLazily(context, entry, { ...state, restartCount: state.restartCount + 1 });
    scheduleRestart(context, entry, delay, start);
  }
}

function endState(before: SavedState, run: Run, status: ExitStatus): SavedState {
  return {
    ...before,
    status: "exited",
    exitCode: status.code,
    error: "",
    oomKilled: status.oomKilled,
    startedAt: before.startedAt === never ? timestamp(run.startedAt) : before.startedAt,
    finishedAt: timestamp(status.at),
    stoppedByUser: run.stopRequested,
  };
}

export const giveBackProcess = (context: Context, entry: Entry): Promise<void> =>
  tryAll(context, entry, [["take the process of", () => context.runtime.remove(entry.id)]]);

export const giveBackMounts = (context: Context, entry: Entry): Promise<void> =>
  tryAll(context, entry, [
    ["unmount the root of", () => context.layers.unmountWritable(entry.id, rootHolder)],
    ["unmount the volumes of", () => unmountVolumes(context, entry.record)],
    ["forget the run of", () => context.volatile.remove(entry.id)],
  ]);

type Part = readonly [what: string, give: () => Promise<void>];

/** Every part is tried; what fails is reported, and mended by the next start or removal. */
async function tryAll(context: Context, entry: Entry, parts: readonly Part[]): Promise<void> {
  const done = await Promise.allSettled(parts.map(([, give]) => give()));
  for (const [index, result] of done.entries())
    if (result.status === "rejected")
      context.background.start(`${parts[index]?.[0]} container ${entry.id}`, Promise.reject(result.reason));
}
