/**
 * Where two trees may differ, as a tree of names: somebody who knows how one came from the other lists the *candidates*,
 * paths at which something may have changed, and the comparison looks only there. A candidate that changed nothing costs
 * a look; a path that is not listed, by a name of the same inode on both sides, must be the same on both.
 */
import type { ByteString } from "./bytes.ts";

export type PathScope = {
  /** The path itself is a candidate: its attributes, and for a directory its names. */
  listed: boolean;
  /** What lies below, by name, that is a candidate or leads to one. */
  readonly below: Map<ByteString, PathScope>;
};

const empty = (): PathScope => ({ listed: false, below: new Map() });

/** Clean paths; "" is the root. */
export function scopeOf(candidates: readonly ByteString[]): PathScope {
  const root = empty();
  for (const path of candidates) {
    let at = root;
    for (const name of path === "" ? [] : path.split("/")) {
      const next = at.below.get(name) ?? empty();
      at.below.set(name, next);
      at = next;
    }
    at.listed = true;
  }
  return root;
}
