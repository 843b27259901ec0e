/** `du` and `who`: how much is in a volume, exactly and within a deadline, and who uses it. */
import { archiveTasks } from "../../archive/task-url.ts";
import type { TreeSize } from "../../archive/tree-size.ts";
import { EngineError, errorMessage, isError } from "../../base/errors.ts";
import { findVolume, isRemoteVolume, longPoolFor } from "../context.ts";
import { useVolume } from "../mount.ts";
import type { Volume } from "../store.ts";
import { lastUse } from "../verb-records.ts";
import type { VolumeSize, VolumeVerbs, VolumeWho } from "../verbs.ts";
import { subject, type VerbContext } from "./context.ts";

/** Milliseconds for a volume that somebody else serves. */
const patience = 30_000;

export async function sizeOfVolume(
  context: VerbContext,
  ...[name, options = {}]: Parameters<VolumeVerbs["size"]>
): Promise<VolumeSize> {
  const volume = await subject(context, name);
  const deadline = options.deadline ?? (isRemoteVolume(context, volume) ? patience : undefined);
  const what = { name, driver: volume.driver };
  try {
    const { bytes, allocated, inodes } = await within(deadline, options.signal, (signal) =>
      count(context, volume, signal),
    );
    return { ...what, bytes, allocated, inodes };
  } catch (error) {
    if (options.signal?.aborted === true || (isError(error, "not_found") && findVolume(context, name) === undefined))
      throw error;
    return { ...what, reason: errorMessage(error) };
  }
}

async function count(context: VerbContext, volume: Volume, signal: AbortSignal | undefined): Promise<TreeSize> {
  await using use = await useVolume(context, volume.name);
  const options = signal === undefined ? {} : { signal };
  return await longPoolFor(context, volume).run<{ path: string }, TreeSize>(
    archiveTasks,
    "treeSizeTask",
    { path: use.path },
    options,
  );
}

/** Leaves the work alone when its time is over: what hangs ends when it can. */
async function within<T>(
  deadline: number | undefined,
  given: AbortSignal | undefined,
  work: (signal: AbortSignal | undefined) => Promise<T>,
): Promise<T> {
  if (deadline === undefined) return work(given);
  const timeout = AbortSignal.timeout(deadline);
  const signal = given === undefined ? timeout : AbortSignal.any([timeout, given]);
  const { promise: late, reject } = Promise.withResolvers<never>();
  const tell = (): void =>
    reject(new EngineError("deadline_exceeded", `it did not answer within ${deadline / 1000} s`));
  timeout.addEventListener("abort", tell, { once: true });
  const done = work(signal);
  done.catch(() => undefined);
  try {
    return await Promise.race([done, late]);
  } finally {
    timeout.removeEventListener("abort", tell);
    late.catch(() => undefined);
  }
}

export async function whoUses(context: VerbContext, name: string): Promise<VolumeWho> {
  await subject(context, name);
  return { name, users: context.users.of(name), usedAt: lastUse(context.database, name) };
}
