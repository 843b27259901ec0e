/** What a migration leaves at another driver than the volume's: half of a copy, or the old data. */
import type { VolumeContext } from "./context.ts";
import { deleteMove, findMove } from "./verb-records.ts";

/** Removes it, and then its row. The caller holds the volume's lock, or nobody else is there yet. */
export async function dropMove(context: VolumeContext, name: string): Promise<void> {
  const move = findMove(context.database, name);
  if (move === undefined) return;
  await context.drivers.of(move.driver).remove({ name, options: move.options });
  await context.database.transact([deleteMove(name)]);
}
