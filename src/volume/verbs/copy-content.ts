/**
 * Copies what is in a volume while it may be in use: passes while its containers go on, and a last short one while they stand
 * still and the volume's lock keeps new ones away. What was asked not to pause is of no one moment when somebody wrote.
 */

import { silent, type Telling, telling } from "../../archive/copy-progress.ts";
import { mirrorOf } from "../../archive/mirror.ts";
import { archiveTasks } from "../../archive/task-url.ts";
import type { TreeSize } from "../../archive/tree-size.ts";
import type { Pool } from "../../host/pool.ts";
import type { VolumeWork } from "../verbs.ts";
import type { VerbContext } from "./context.ts";

export type ContentCopy = {
  /** Name of the volume that is read; undefined for what nobody else can touch. */
  readonly volume: string | undefined;
  /** Where it is mounted. */
  readonly source: string;
  readonly target: string;
  readonly pool: Pool;
  readonly work: VolumeWork;
};

type Copied = { readonly bytes: number; readonly consistent: boolean };

/** Durable in the target when it resolves. */
export async function copyContent(context: VerbContext, copy: ContentCopy): Promise<Copied> {
  const tell = await progressOf(copy, "copying");
  const copied = await inPasses(context, copy, tell);
  tell.done();
  return copied;
}

async function inPasses(context: VerbContext, copy: ContentCopy, { passed }: Telling): Promise<Copied> {
  const { volume, source, target, pool, work } = copy;
  await using run = mirrorOf({ pool, source, target, fresh: true, signal: work.signal });
  if (volume === undefined) return { bytes: (await run.pass({ kind: "still" }, passed)).copied, consistent: true };
  const goesOn = work.pause === false;
  const { copied: bytes, last } = await run.live(passed, goesOn);
  if (goesOn) return { bytes, consistent: last.changed === 0 && last.missed === 0 };
  await using _held = await context.users.hold(volume, { freeze: true });
  const { copied } = await context.locks.run(volume, () => run.pass({ kind: "still" }, passed));
  return { bytes: bytes + copied, consistent: true };
}

/** Tells a client how far a copy is; what there is in all is counted first. */
export async function progressOf(
  { source, pool, work: { progress, signal } }: Pick<ContentCopy, "source" | "pool" | "work">,
  step: string,
): Promise<Telling> {
  if (progress === undefined) return silent;
  const options = signal === undefined ? {} : { signal };
  const size = await pool.run<{ path: string }, TreeSize>(archiveTasks, "treeSizeTask", { path: source }, options);
  return telling(size, (at) => progress({ step, ...at }));
}
