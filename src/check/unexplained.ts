/**
 * What a layer's tree has or lacks against the tree below it, and its tar does not explain: a file that somebody put
 * there, a file of a lower layer that went. A file is compared by what it says of itself (type, mode, owner, size,
 * time), not by content. For workers.
 */
import { type ByteString, bytesOfText, byteText, splitPath } from "../archive/bytes.ts";
import { compareTrees } from "../archive/compare-trees.ts";
import { findStat } from "../archive/root-tree.ts";
import { type Change, changeKind } from "../base/change.ts";
import type { ClaimedTree } from "./compare-claims.ts";
import type { TarClaims } from "./tar-claims.ts";

const words = { [changeKind.added]: "added", [changeKind.modified]: "changed", [changeKind.deleted]: "gone" };

/** Changes of `root` against `below` (both paths of our own choice) that nothing in the tar makes. */
export function unexplainedChanges(
  trees: { readonly root: string; readonly below: string },
  tree: ClaimedTree,
  claims: TarClaims,
): readonly { readonly path: string; readonly how: string }[] {
  const explained = new Explained(tree, claims);
  const left = compareTrees(trees.below, trees.root).filter((change) => !explained.has(change));
  // A directory that leads to a change counts as changed itself.
  const changed = left
    .filter(
      ({ path, kind }) => kind !== changeKind.modified || !left.some((other) => other.path.startsWith(`${path}/`)),
    )
    .map(({ path, kind }) => ({ path, how: words[kind] }));
  return [...changed, ...shownAgain(tree, claims)];
}

/** Names that the layer hides, does not make, and that show all the same. */
function* shownAgain(tree: ClaimedTree, claims: TarClaims): Generator<{ path: string; how: string }, void, undefined> {
  const made = new Explained(tree, { all: claims.all, hidden: [] });
  for (const { clean, what } of claims.hidden) {
    const real = what === "name" ? tree.realPath(clean) : undefined;
    if (real === undefined || made.makes(real) || made.makes(clean)) continue;
    if (tree.at(real, findStat) !== undefined)
      yield { path: `/${byteText(clean)}`, how: "was deleted and shows again" };
  }
}

/** Paths that the tar makes or hides, each as written and as resolved. */
class Explained {
  readonly #made = new Set<ByteString>([""]);
  readonly #ended = new Set<ByteString>();

  constructor(tree: ClaimedTree, claims: Pick<TarClaims, "all" | "hidden">) {
    for (const { clean, type } of claims.all)
      for (const path of new Set([clean, tree.realPath(clean) ?? clean])) {
        this.#addMade(path);
        if (type !== "directory") this.#ended.add(path);
      }
    for (const { clean } of claims.hidden)
      for (const path of new Set([clean, tree.realPath(clean) ?? clean])) {
        this.#addMade(path);
        this.#ended.add(path);
      }
  }

  has({ path, kind }: Change): boolean {
    // Bytes that are no UTF-8 did not survive the way here.
    if (path.includes("\ufffd")) return true;
    const bytes = bytesOfText(path.replace(/^\//, ""));
    if (kind !== changeKind.deleted) return this.#made.has(bytes);
    for (let above = bytes; ; above = splitPath(above).parent) {
      if (this.#ended.has(above)) return true;
      if (above === "") return false;
    }
  }

  makes(path: ByteString): boolean {
    return this.#made.has(path);
  }

  #addMade(path: ByteString): void {
    for (let above = path; !this.#made.has(above); above = splitPath(above).parent) this.#made.add(above);
  }
}
