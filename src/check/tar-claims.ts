/**
 * What a layer's tar says must be in the tree. Entries replace one another as they do when the layer is applied: the
 * last one of a path stands, and what is no directory ends what was below it. Paths are clean byte strings, as
 * written: symlinks in them are resolved by whoever compares with a tree.
 */
import { type ByteString, entryPath, joinPath, splitPath } from "../archive/bytes.ts";
import type { TarEntry } from "../archive/read-tar.ts";

/** What an entry claims, without its content. */
export type Claim = TarEntry & {
  readonly clean: ByteString;
  /** Its bytes are counted as the layer's: a file, or another name of one. */
  readonly counted: boolean;
};

/** A name that the layer hides from the layers below. */
export type Hidden = {
  readonly clean: ByteString;
  /** `inside`: an opaque mark; the directory stays. */
  readonly what: "name" | "inside";
};

type Node = { claim: Claim | undefined; readonly children: Map<string, Node> };

const whiteout = ".wh.";
const opaque = ".wh..wh..opq";
const aufs = ".wh..wh.";

export class TarClaims {
  /** In the order of the tar, replaced ones too. */
  readonly all: Claim[] = [];
  readonly hidden: Hidden[] = [];
  readonly #root: Node = { claim: undefined, children: new Map() };
  readonly #counted = new Set<ByteString>();

  add(entry: TarEntry): void {
    const clean = entryPath(entry.path);
    if (this.#addHidden(clean)) return;
    const counted = this.#isCounted(entry);
    if (counted) this.#counted.add(clean);
    else this.#counted.delete(clean);
    const claim = { ...entry, clean, counted };
    this.all.push(claim);
    if (clean === "") this.#root.claim = claim;
    else this.#place(claim);
  }

  /** Claims that no later entry of the same path, or above it, has ended. */
  *standing(): Generator<Claim, void, undefined> {
    const todo: Node[] = [this.#root];
    for (let node = todo.pop(); node !== undefined; node = todo.pop()) {
      if (node.claim !== undefined) yield node.claim;
      todo.push(...node.children.values());
    }
  }

  #isCounted(entry: TarEntry): boolean {
    return entry.type === "file" || (entry.type === "link" && this.#counted.has(entryPath(entry.link)));
  }

  /** Takes a whiteout in; true for every name that is none of a file. */
  #addHidden(clean: ByteString): boolean {
    if (!clean.includes(whiteout)) return false;
    const { parent, name } = splitPath(clean);
    if (parent.split("/").some((part) => part.startsWith(whiteout))) return true;
    if (!name.startsWith(whiteout)) return false;
    if (name === opaque) this.hidden.push({ clean: parent, what: "inside" });
    else if (!name.startsWith(aufs))
      this.hidden.push({ clean: joinPath(parent, name.slice(whiteout.length)), what: "name" });
    return true;
  }

  #place(claim: Claim): void {
    let node = this.#root;
    for (const part of claim.clean.split("/")) {
      const next = node.children.get(part) ?? { claim: undefined, children: new Map() };
      node.children.set(part, next);
      node = next;
    }
    const wasDirectory = node.claim === undefined || node.claim.type === "directory";
    if (claim.type !== "directory" || !wasDirectory) node.children.clear();
    node.claim = claim;
  }
}
