/** `container prune`: everything that does not run and that the filters let through. */
import { errorCode } from "../base/errors.ts";
import type { Filters } from "./container.ts";
import { type Context, now } from "./context.ts";
import { prunePredicate } from "./filter.ts";
import { removeContainer } from "./remove.ts";

export async function pruneContainers(
  context: Context,
  filters: Filters,
): Promise<{ readonly removed: readonly string[]; readonly reclaimed: number }> {
  const passes = prunePredicate(filters, now());
  const removed: string[] = [];
  let reclaimed = 0;
  for (const entry of context.entries.all()) {
    if (entry.phase.kind !== "idle" || !passes(entry.view())) continue;
    try {
      const size = await context.layers.writableSize(entry.id);
      await removeContainer(context, entry, { force: false, volumes: false });
      removed.push(entry.id);
      reclaimed += size;
    } catch (error) {
      // Started, or removed by someone else, since we looked.
      if (errorCode(error) !== "conflict" && errorCode(error) !== "not_found") throw error;
    }
  }
  context.events.emit("container", "prune", "", { reclaimed: String(reclaimed) });
  return { removed, reclaimed };
}
