/** How far a copy is, for people: of what there was when it was counted, never backwards though it goes in passes, at its end all of it. */
import type { Passed } from "./mirror-tree.ts";
import type { TreeSize } from "./tree-size.ts";

/** Never less than before; at the end of the copy all of it. */
export type CopyProgress = Passed & { readonly totalEntries: number; readonly totalBytes: number };

/** What a copy calls: with what a pass has passed so far, and when all of it is there. */
export type Telling = { readonly passed: (passed: Passed) => void; readonly done: () => void };

export const silent: Telling = { passed: () => undefined, done: () => undefined };

/** Tells `tell` what is new. */
export function telling(
  { bytes, inodes }: Pick<TreeSize, "bytes" | "inodes">,
  tell: (at: CopyProgress) => void,
): Telling {
  const totals = { totalEntries: inodes - 1, totalBytes: bytes };
  let at: Passed = { entries: 0, bytes: 0 };
  const passed = (reached: Passed): void => {
    const next = {
      entries: Math.max(at.entries, Math.min(reached.entries, totals.totalEntries)),
      bytes: Math.max(at.bytes, Math.min(reached.bytes, totals.totalBytes)),
    };
    if (next.entries === at.entries && next.bytes === at.bytes) return;
    at = next;
    tell({ ...at, ...totals });
  };
  return { passed, done: () => passed({ entries: totals.totalEntries, bytes: totals.totalBytes }) };
}
