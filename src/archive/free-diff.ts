/**
 * Unpacking a layer's tar without the tree below it: what hides something below becomes a mark in the diff, and what the
 * result depends on is written down as facts (diff-facts.ts). The marks are those of overlayfs: a whiteout is the
 * character device 0:0, an opaque directory carries an attribute that the driver names. Marks are made at the end, when
 * it is known which names the layer has itself: those hide what is below by standing there.
 */
import { constants } from "node:fs";
import { mknodat, setXattr } from "../host/sys.ts";
import { type ByteString, joinPath, nameOf } from "./bytes.ts";
import { FactsRecorder, fact, parentOf } from "./diff-facts.ts";
import { type Directory, findStat, isDirectory, type RootTree } from "./root-tree.ts";

/** The attribute of an opaque directory, under the name that the disk keeps. */
export type OpaqueMark = { readonly attribute: string; readonly value: string };

export class FreeDiff {
  readonly facts = new FactsRecorder();
  readonly #opaque: OpaqueMark;
  #marking = false;

  constructor(opaque: OpaqueMark) {
    this.#opaque = opaque;
  }

  /** A directory came to be because something below it was needed. */
  implied(path: ByteString): void {
    this.facts.directory(path, this.#marking ? fact.marked : fact.implied);
  }

  /** An entry was placed. */
  placed(path: ByteString, isDirectory: boolean): void {
    if (isDirectory) this.facts.directory(path, fact.described);
    else this.facts.placed(path);
  }

  /** `.wh.name` */
  hide(tree: RootTree, parent: ByteString, name: ByteString): void {
    const directory = this.#reach(tree, parent);
    if (directory !== undefined) this.facts.whiteouts.add(joinPath(directory.path, name));
  }

  /** `.wh..wh..opq` */
  hideAll(tree: RootTree, path: ByteString): void {
    const directory = this.#reach(tree, path);
    if (directory === undefined) return;
    // The root of an overlay cannot be opaque.
    if (directory.path === "") this.facts.setDependent();
    else this.facts.add(directory.path, fact.opaque);
  }

  /** Makes the marks. Directories get new times by it. */
  finish(tree: RootTree): void {
    if (this.facts.dependent) return;
    for (const path of this.facts.whiteouts) this.#closeOwn(tree, path);
    for (const path of this.facts.whiteouts) if (!this.#whiteOut(tree, path)) this.facts.whiteouts.delete(path);
    for (const [path, flags] of this.facts.directories())
      if ((flags & (fact.closed | fact.opaque)) !== 0 && (flags & fact.gone) === 0) {
        const directory = tree.find(path);
        if (directory !== undefined)
          setXattr(directory.fd, "", this.#opaque.attribute, Buffer.from(this.#opaque.value));
      }
  }

  /**
   * The directory in which something is hidden. The layer itself may have it, or something else there (then nobody can
   * tell here what an entry meant by it); else it must be below.
   */
  #reach(tree: RootTree, path: ByteString): Directory | undefined {
    const found = tree.find(path);
    if (found !== undefined) return found;
    if (isBlocked(tree, path)) {
      this.facts.setDependent();
      return undefined;
    }
    this.#marking = true;
    try {
      return tree.make(path);
    } finally {
      this.#marking = false;
    }
  }

  /** `.wh.x` beside a directory `x` of the layer: nothing of a lower `x` shows. */
  #closeOwn(tree: RootTree, path: ByteString): void {
    const own = ownAt(tree, path);
    if (own?.stat !== undefined && isDirectory(own.stat.mode)) this.facts.add(path, fact.closed);
  }

  /** False when no whiteout is needed, or would be seen as a file because no lower directory is merged here. */
  #whiteOut(tree: RootTree, path: ByteString): boolean {
    if (this.facts.isShut(parentOf(path))) return false;
    const own = ownAt(tree, path);
    if (own === undefined || own.stat !== undefined) return false;
    mknodat(own.directory.fd, nameOf(own.name), constants.S_IFCHR, 0, 0);
    return true;
  }
}

/** What stands at a real path, if its directory is still there. */
function ownAt(tree: RootTree, path: ByteString) {
  const parent = parentOf(path);
  const directory = tree.find(parent);
  if (directory === undefined || directory.path !== parent) return undefined;
  const name = path.slice(parent === "" ? 0 : parent.length + 1);
  return { directory, name, stat: findStat(directory.fd, name) };
}

/** True when something that is no directory stands on the way to `path`. */
function isBlocked(tree: RootTree, path: ByteString): boolean {
  let above = "";
  for (const name of path.split("/")) {
    const next = joinPath(above, name);
    if (tree.find(next) === undefined) {
      const directory = tree.find(above);
      return directory !== undefined && findStat(directory.fd, name) !== undefined;
    }
    above = next;
  }
  return false;
}
