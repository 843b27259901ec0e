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

const emptyNode = (): Node => ({ claim: undefined, children: new Map() });

const whiteout = ".wh.";
const opaque = ".wh..wh..opq";
const aufs = ".wh..wh.";

export class TarClaims {
  /** In the order of the tar, replaced ones too. */
  readonly all: Claim[] = [];
  readonly hidden: Hidden[] = [];
  /** An entry was written through a symlink of the same tar. */
  throughLink = false;
  readonly #root: Node = emptyNode();
  readonly #counted = new Set<ByteString>();

  add(entry: TarEntry): void {
    const clean = entryPath(entry.path);
    if (this.#addHidden(clean)) return;
    if (entry.type === "link") this.#walk(splitPath(entryPath(entry.link)).parent);
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
    this.#walk(parent);
    if (parent.split("/").some((part) => part.startsWith(whiteout))) return true;
    if (!name.startsWith(whiteout)) return false;
    if (name === opaque) this.hidden.push({ clean: parent, what: "inside" });
    else if (!name.startsWith(aufs))
      this.hidden.push({ clean: joinPath(parent, name.slice(whiteout.length)), what: "name" });
    return true;
  }

  #place(claim: Claim): void {
    const { parent, name } = splitPath(claim.clean);
    const above = this.#walk(parent, { making: true });
    const node = above.children.get(name) ?? emptyNode();
    above.children.set(name, node);
    const wasDirectory = node.claim === undefined || node.claim.type === "directory";
    if (claim.type !== "directory" || !wasDirectory) node.children.clear();
    node.claim = claim;
  }

  /** The node of a directory, whatever is claimed of it. `making`: what is none on the way becomes one. */
  #walk(directory: ByteString, { making }: { readonly making: boolean } = { making: false }): Node {
    let node = this.#root;
    for (const part of directory === "" ? [] : directory.split("/")) {
      const next = node.children.get(part) ?? emptyNode();
      node.children.set(part, next);
      node = next;
      if (node.claim?.type === "symlink") this.throughLink = true;
      else if (making && node.claim !== undefined && node.claim.type !== "directory") node.claim = undefined;
    }
    return node;
  }
}
