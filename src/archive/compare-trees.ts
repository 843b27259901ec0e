/**
 * The changes between two whole trees, for drivers that keep no diffs: a double walk that compares what a file says of
 * itself, not its content (a file written with the same size and time to the nanosecond passes for unchanged, as in
 * Docker). For workers.
 */
import type { Change } from "../base/change.ts";
import { withBoth } from "./overlay-changes.ts";
import { type Dialect, type Difference, type DiffOptions, TreeDiff } from "./tree-diff.ts";
import { listChanges, sizeOf, writeLayer } from "./write-difference.ts";
import { plainXattrs } from "./write-tree.ts";

const plain: Dialect = {
  merged: false,
  newXattrs: plainXattrs,
  oldXattrs: plainXattrs,
  compareContents: false,
  marks: () => ({ opaque: false, xattrWhiteouts: false }),
  isWhiteout: () => false,
  check: () => undefined,
};

const diffOf = (fresh: number, old: number, options: DiffOptions = {}): Generator<Difference> =>
  new TreeDiff(plain, options).differences(fresh, old);

/** What `tree` has that `base` has not, sorted by path. Host paths of our own choice. */
export function compareTrees(base: string, tree: string): Change[] {
  return withBoth(tree, base, (fresh, old) => listChanges(diffOf(fresh, old)));
}

/** The same as a layer tar. */
export async function compareTreesTar(
  base: string,
  tree: string,
  write: (chunk: Uint8Array) => Promise<void>,
): Promise<void> {
  await withBoth(tree, base, (fresh, old) => writeLayer(diffOf(fresh, old, { links: true }), plainXattrs, write));
}

/** Bytes of files that are new or changed in `tree`, each inode once. */
export function compareTreesSize(base: string, tree: string): number {
  return withBoth(tree, base, (fresh, old) => sizeOf(diffOf(fresh, old)));
}
