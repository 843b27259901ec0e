/**
 * The changes between two whole trees, for drivers that keep no diffs: a double walk that compares what a file says of
 * itself, not its content (a file written with the same size and time to the nanosecond passes for unchanged, as in
 * Docker). Who knows where the trees may differ gives the candidates (path-scope.ts); then the rest is not walked. For
 * workers.
 */
import type { Change } from "../base/change.ts";
import type { ByteString } from "./bytes.ts";
import { withBoth } from "./overlay-changes.ts";
import { scopeOf } from "./path-scope.ts";
import { type Dialect, type Difference, type DiffOptions, TreeDiff } from "./tree-diff.ts";
import { listChanges, sizeOf, type TarTimes, writeLayer } from "./write-difference.ts";
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

export type CompareOptions = {
  /** Clean paths at which the trees may differ; everywhere unless given. */
  readonly candidates?: readonly ByteString[] | undefined;
};

type Trees = CompareOptions & { readonly base: string; readonly tree: string };

function compare<T>(
  { base, tree, candidates }: Trees,
  options: DiffOptions,
  use: (differences: Generator<Difference>) => T,
): T {
  const scope = candidates === undefined ? undefined : scopeOf(candidates);
  return withBoth(tree, base, (fresh, old) => use(new TreeDiff(plain, { ...options, scope }).differences(fresh, old)));
}

/** What `tree` has that `base` has not, sorted by path. Host paths of our own choice. */
export function compareTrees(base: string, tree: string, options: CompareOptions = {}): Change[] {
  return compare({ ...options, base, tree }, {}, listChanges);
}

/** The same as a layer tar. */
export async function compareTreesTar(
  base: string,
  tree: string,
  options: CompareOptions & TarTimes & { readonly write: (chunk: Uint8Array) => Promise<void> },
): Promise<void> {
  const { write, exactTimes, ...where } = options;
  await compare({ ...where, base, tree }, { links: true }, (differences) =>
    writeLayer(differences, { names: plainXattrs, write, exactTimes }),
  );
}

/** Bytes of files that are new or changed in `tree`, each inode once. */
export function compareTreesSize(base: string, tree: string, options: CompareOptions = {}): number {
  return compare({ ...options, base, tree }, {}, sizeOf);
}
