/**
 * A restore from a copy that the store keeps. The intent is a row; while it is there nobody sees the volume before its content is
 * the copy's, so a crash in the middle costs the time to do it again.
 */
import { mirrorOf, type TellPassed } from "../archive/mirror.ts";
import { EngineError, errorCode, errorMessage } from "../base/errors.ts";
import { longPoolFor, type VolumeContext } from "./context.ts";
import type { Volume } from "./store.ts";
import { endRestore, pendingRestore } from "./verb-records.ts";

/** `path` is where the volume is mounted; the caller holds its lock. Nothing to restore: nothing. */
export async function finishRestore(
  context: VolumeContext,
  volume: Volume,
  ...[path, passed]: [path: string, passed?: TellPassed]
): Promise<number> {
  const { name } = volume;
  const id = pendingRestore(context.database, name);
  if (id === undefined) return 0;
  if (context.copies === undefined)
    throw new EngineError("conflict", `volume ${name} is half restored, and this engine has no copies of volumes`);
  const source = context.copies.pathOf(id);
  await using run = mirrorOf({ pool: longPoolFor(context, volume), source, target: path });
  const { copied } = await run.pass({ kind: "still" }, passed).catch((cause: unknown) => {
    const way = "what is in the way goes first, or restore another snapshot, or remove the volume";
    throw new EngineError(errorCode(cause), `volume ${name} is half restored: ${errorMessage(cause)}; ${way}`, {
      cause,
    });
  });
  await context.database.transact([endRestore(name)]);
  return copied;
}
