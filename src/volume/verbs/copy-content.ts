/**
 * Copies what is in a volume while it may be in use: passes while its containers go on, and a last short one while they stand
 * still and the volume's lock keeps new ones away. What was asked not to pause is of no one moment when somebody wrote.
 */

import type { PassResult } from "../../archive/mirror-tree.ts";
import { archiveTasks } from "../../archive/task-url.ts";
import type { TreeSize } from "../../archive/tree-size.ts";
import type { Pool } from "../../host/pool.ts";
import { MirrorRun, type Passed } from "../mirror.ts";
import type { VolumeProgress, VolumeWork } from "../verbs.ts";
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

/** Passes while the volume is in use. */
const mostPasses = 4;
/** A pass that copied less is followed by the last one. */
const little = 64 * 2 ** 20;

/** Durable in the target when it resolves. */
export async function copyContent(
  context: VerbContext,
  copy: ContentCopy,
): Promise<{ readonly bytes: number; readonly consistent: boolean }> {
  const { volume, source, target, pool, work } = copy;
  const signal = work.signal;
  const tell = await progressOf(copy, "copying");
  await using run = new MirrorRun({ pool, source, target, fresh: true, signal });
  if (volume === undefined) return { bytes: (await run.pass({ kind: "still" }, tell)).copied, consistent: true };
  const { bytes, last } = await livePasses(run, tell, work.pause === false);
  if (work.pause === false) return { bytes, consistent: last.changed === 0 && last.missed === 0 };
  await using _held = await context.users.hold(volume, { freeze: true });
  const { copied } = await context.locks.run(volume, () => run.pass({ kind: "still" }));
  return { bytes: bytes + copied, consistent: true };
}

/** `toTheEnd`: until a pass has found nothing, where that comes soon. */
async function livePasses(
  run: MirrorRun,
  tell: Passed,
  toTheEnd: boolean,
): Promise<{ readonly bytes: number; readonly last: PassResult }> {
  let bytes = 0;
  for (let pass = 1; ; pass++) {
    const last = await run.pass({ kind: "live" }, tell);
    bytes += last.copied;
    const enough = toTheEnd ? pass > 1 && last.changed + last.missed === 0 : last.copied < little;
    if (enough || pass === mostPasses) return { bytes, last };
  }
}

/** Tells a client how far a pass is; what there is in all is counted first. */
export async function progressOf(
  { source, pool, work: { progress, signal } }: Pick<ContentCopy, "source" | "pool" | "work">,
  step: string,
): Promise<Passed> {
  if (progress === undefined) return () => undefined;
  const options = signal === undefined ? {} : { signal };
  const size = await pool.run<{ path: string }, TreeSize>(archiveTasks, "treeSizeTask", { path: source }, options);
  const totals = { totalBytes: size.bytes, totalEntries: size.inodes - 1 };
  return ({ bytes, entries }) => progress({ step, bytes, entries, ...totals } satisfies VolumeProgress);
}
