/**
 * Applies a layer's tar to the whole tree below it (OCI image-spec, layer.md): what stands in the tar is created over
 * what is there, `.wh.name` hides what the layers below have of that name, `.wh..wh..opq` what they have in that
 * directory, both whatever their position: what this layer itself made stays. The tree is an ordinary directory (an
 * overlay mount, a snapshot, a copy), so nothing here knows a storage driver.
 *
 * On the way the digest is made over every byte of the input, and the recipe is written that gives the tar back.
 * Directories implied but not described are 0755 and root's. Nothing is promised about the tree after a failure; the
 * recipe is gone then. Synchronous calls inside: for workers.
 */
import { createHash } from "node:crypto";
import { crc32 } from "node:zlib";
import { EngineError, isError } from "../base/errors.ts";
import {
  closeRead,
  type FileStat,
  listXattrs,
  O,
  openat2,
  readDirectory,
  removeXattr,
  utimensat,
} from "../host/sys.ts";
import { type ByteString, bytesOf, entryPath, joinPath, nameOf, quoted, splitPath } from "./bytes.ts";
import { fact, parentOf } from "./diff-facts.ts";
import { aufsLinks, meaningOf, type Whiteout } from "./entry-meaning.ts";
import type { FreeDiff } from "./free-diff.ts";
import { KeptAttributes } from "./kept-attributes.ts";
import { OpenFiles } from "./open-files.ts";
import { made, PathTable } from "./path-table.ts";
import {
  applyAttributes,
  beginFile,
  boundTime,
  explained,
  type OpenedFile,
  type Placed,
  type PlaceOptions,
  placeNode,
  pour,
  storedXattr,
} from "./place-entry.ts";
import { type TarEntry, TarReader } from "./read-tar.ts";
import { RecipeWriter } from "./recipe-writer.ts";
import { findStat, isDirectory, isFile, type Location, openDirectory, RootTree, resetDirectory } from "./root-tree.ts";
import { TakenFile } from "./taken-file.ts";

export type ApplyOptions = {
  /** Where the recipe is written; an older one is replaced. */
  readonly recipePath: string;
  /** Attributes with the prefix `from` are stored with the prefix `to`. */
  readonly escapeXattrs?: { readonly from: string; readonly to: string };
  /** A tar with an attribute of such a prefix is refused. */
  readonly refusedXattrs?: readonly string[];
  /** The tree forgets attributes of what stands around a change (kept-attributes.ts). */
  readonly keepAttributes?: boolean;
  /** The tree is empty, and the layer is unpacked without what is below it. */
  readonly free?: FreeDiff;
  /**
   * With `free`: what the tar describes, but for its root, is put into the tree by its writer (tree-copy.ts), which has
   * offered some of the files here to be filled.
   */
  readonly copied?: SharedArrayBuffer;
  readonly signal?: AbortSignal;
};

export type AppliedLayer = {
  /** `sha256:` and the digest of the tar. */
  readonly diffId: string;
  readonly tarSize: number;
  /** Bytes of the regular files that the layer adds and that stayed, each inode once. */
  readonly size: number;
};

/** `root` is the host path of the mounted tree. */
export async function applyLayer(
  input: AsyncIterable<Uint8Array>,
  root: string,
  options: ApplyOptions,
): Promise<AppliedLayer> {
  const hash = createHash("sha256");
  let tarSize = 0;
  using recipe = new RecipeWriter(options.recipePath);
  using layer = new LayerTree(root, recipe, options);
  const reader = new TarReader(input, {
    onChunk: (chunk) => {
      hash.update(chunk);
      tarSize += chunk.length;
    },
    onRaw: (bytes) => recipe.literal(bytes),
  });
  try {
    for (;;) {
      const entry = reader.nextHere() ?? (await reader.next());
      if (entry === undefined) break;
      options.signal?.throwIfAborted();
      const later = layer.apply(entry, reader);
      if (later !== undefined) await later;
    }
    options.signal?.throwIfAborted();
    layer.finish();
    recipe.finish(tarSize);
    return { diffId: `sha256:${hash.digest("hex")}`, tarSize, size: layer.size };
  } finally {
    await reader.close();
  }
}

/** The tree while one layer is applied to it. */
class LayerTree implements Disposable {
  /** Bytes of files so far. */
  size = 0;
  readonly #tree: RootTree;
  readonly #recipe: RecipeWriter;
  readonly #options: PlaceOptions;
  readonly #free: FreeDiff | undefined;
  readonly #copied: OpenFiles | undefined;
  readonly #made = new PathTable();
  readonly #kept: KeptAttributes | undefined;
  /** Times of directories by real path, "" for the root. */
  readonly #times = new Map<ByteString, bigint>();
  /** Attributes that this layer gave to directories of layers below. */
  readonly #directoryXattrs = new Map<ByteString, ReadonlySet<string>>();

  constructor(root: string, recipe: RecipeWriter, options: ApplyOptions) {
    this.#recipe = recipe;
    const { escapeXattrs, refusedXattrs = [], keepAttributes = false } = options;
    const copiesTarget = (path: ByteString): boolean =>
      this.#kept !== undefined && (this.#made.get(path) & made.entry) === 0 && this.#kept.copy(path);
    this.#options = { copiesTarget, refusedXattrs, ...(escapeXattrs === undefined ? {} : { escapeXattrs }) };
    this.#free = options.free;
    this.#copied = options.copied && new OpenFiles(options.copied);
    this.#tree = new RootTree(root, {
      beforeRemove: (path, stat, at) => this.#beforeRemove(path, stat, at),
      onOpen: (path) => this.#kept?.note(path),
      afterImplied: (path) => this.#implied(path),
    });
    if (keepAttributes) this.#kept = new KeptAttributes(this.#tree.fd);
  }

  /** Undefined when it is done: an entry whose content is here needs no promise. */
  apply(entry: TarEntry, reader: TarReader): Promise<void> | undefined {
    const path = entryPath(entry.path);
    const meaning = meaningOf(path);
    if (meaning.kind === "entry" && entry.type === "file" && path !== "") return this.#placeFile(entry, path, reader);
    if (path === "") this.#applyRoot(entry);
    else if (meaning.kind === "entry") this.#placeOrDepend(entry, path);
    else if (meaning.kind !== "ignored") this.#applyWhiteout(entry, meaning);
    return undefined;
  }

  #applyWhiteout(entry: TarEntry, meaning: Whiteout): void {
    try {
      if (meaning.kind === "opaque") this.#hideAll(meaning.directory);
      else this.#hide(meaning.directory, meaning.name);
    } catch (error) {
      throw explained(error, entry);
    }
  }

  /** Sets the times of directories, now that nothing changes in them any more. */
  finish(): void {
    const described = (path: ByteString): boolean =>
      path === "" ? this.#times.has("") : (this.#made.get(path) & (made.directory | made.fresh)) !== 0;
    this.#kept?.restore(this.#tree, described);
    this.#free?.finish(this.#tree);
    for (const [path, time] of this.#times) {
      if (path !== "" && (this.#made.get(path) & made.directory) === 0) continue;
      const directory = this.#tree.find(path);
      if (directory !== undefined) utimensat(directory.fd, "", time, time);
    }
  }

  [Symbol.dispose](): void {
    this.#tree[Symbol.dispose]();
  }

  /** A hard link that leads nowhere here may lead below. */
  #placeOrDepend(entry: TarEntry, path: ByteString): void {
    try {
      this.#place(entry, path);
    } catch (error) {
      if (this.#free === undefined || entry.type !== "link" || !isError(error, "invalid_argument")) throw error;
      this.#free.facts.setDependent();
    }
  }

  #place(entry: TarEntry, path: ByteString): void {
    if (entry.type === "link" && entryPath(entry.link, "hard link target").startsWith(`${aufsLinks}/`))
      throw new EngineError("unsupported", `hard link ${quoted(entry.path)} leads into aufs' own store (${aufsLinks})`);
    const placed =
      this.#copied === undefined ? placeNode(this.#tree, entry, path, this.#options) : this.#look(entry, path);
    const { path: real } = placed;
    this.#note(placed, entry);
    if (entry.type === "directory") {
      this.#made.add(real, made.entry | made.directory | (placed.kept ? 0 : made.fresh));
      this.#times.set(real, boundTime(entry.mtime));
      if (placed.kept) this.#rememberXattrs(real, entry);
    } else this.#made.add(real, made.entry | this.#countedAs(placed.linkedTo));
  }

  /** What {@link placeNode} would say of an entry that is in the tree already. */
  #look(entry: TarEntry, path: ByteString): Placed {
    this.#implyAbove(path);
    const linkedTo = entry.type === "link" ? entryPath(entry.link, "hard link target") : undefined;
    return { path, size: 0, crc: 0, kept: false, linkedTo };
  }

  #implyAbove(path: ByteString): void {
    const missing: ByteString[] = [];
    for (let above = parentOf(path); above !== "" && this.#free?.facts.flags(above) === 0; above = parentOf(above))
      missing.unshift(above);
    for (const directory of missing) this.#implied(directory);
  }

  #placeFile(entry: TarEntry, path: ByteString, reader: TarReader): Promise<void> | undefined {
    const file = this.#begin(entry, path);
    const content = reader.readHere();
    if (content === undefined) return this.#pour(file, entry, reader);
    try {
      if (content.length > 0) file.write(content);
      file.finish();
    } catch (error) {
      throw explained(error, entry);
    } finally {
      file[Symbol.dispose]();
    }
    this.#addFile(file.path, entry, crc32(content));
    return undefined;
  }

  async #pour(file: OpenedFile, entry: TarEntry, reader: TarReader): Promise<void> {
    let crc: number;
    try {
      crc = await pour(reader, file);
      file.finish();
    } catch (error) {
      throw explained(error, entry);
    } finally {
      file[Symbol.dispose]();
    }
    this.#addFile(file.path, entry, crc);
  }

  #begin(entry: TarEntry, path: ByteString): OpenedFile {
    try {
      if (this.#copied === undefined) return beginFile(this.#tree, entry, path, this.#options);
      this.#implyAbove(path);
      return new TakenFile(path, entry, this.#copied.take(entry.path));
    } catch (error) {
      throw explained(error, entry);
    }
  }

  #note(placed: Pick<Placed, "path" | "kept" | "linkedTo">, { type }: TarEntry): void {
    this.#made.addAbove(placed.path);
    this.#noteChange(placed);
    this.#free?.placed(placed.path, type === "directory");
  }

  /** A directory came to be because something in it did. */
  #implied(path: ByteString): void {
    this.#free?.implied(path);
    this.#made.add(path, made.fresh);
    this.#made.addAbove(path);
    this.#kept?.change(splitPath(path).parent);
  }

  #noteChange({ path, kept, linkedTo }: Pick<Placed, "path" | "kept" | "linkedTo">): void {
    if (this.#kept === undefined || linkedTo === path) return;
    if (kept) this.#kept.touch(path);
    else this.#kept.change(splitPath(path).parent);
    if (linkedTo !== undefined) this.#kept.touch(splitPath(linkedTo).parent);
  }

  #addFile(real: ByteString, entry: TarEntry, crc: number): void {
    this.#note({ path: real, kept: false, linkedTo: undefined }, entry);
    this.size += entry.size;
    this.#made.add(real, made.entry | made.counted);
    if (entry.size > 0) this.#made.add(real, made.payload, this.#recipe.payload(real, entry.size, crc));
  }

  /** A hard link shares what its target counts. */
  #countedAs(target: ByteString | undefined): number {
    return target === undefined ? 0 : this.#made.get(target) & made.counted;
  }

  #rememberXattrs(real: ByteString, entry: TarEntry): void {
    if (entry.xattrs.size === 0) return;
    const names = [...entry.xattrs.keys()].map((name) => storedXattr(name, this.#options));
    this.#directoryXattrs.set(real, new Set(names));
  }

  /** An entry for the root may change its attributes, never what it is (CVE-2021-29136). */
  #applyRoot(entry: TarEntry): void {
    if (entry.type !== "directory")
      throw new EngineError("invalid_argument", `entry ${quoted(entry.path)} would make the root a ${entry.type}`);
    this.#kept?.note("");
    this.#kept?.touch("");
    try {
      applyAttributes(this.#tree.fd, "", entry, this.#options);
    } catch (error) {
      throw explained(error, entry);
    }
    this.#tree.reopen("");
    this.#free?.facts.directory("", fact.described);
    this.#times.set("", boundTime(entry.mtime));
  }

  /** Keeps what the recipe needs of a file that this layer made. */
  #beforeRemove(path: ByteString, stat: FileStat, at: Location): void {
    this.#kept?.forget(path);
    this.#kept?.change(splitPath(path).parent);
    this.#free?.facts.removed(path, isDirectory(stat.mode));
    const flags = this.#made.get(path);
    if (flags === 0) return;
    if ((flags & made.counted) !== 0 && isFile(stat.mode) && stat.nlink === 1) this.size -= stat.size;
    if ((flags & made.payload) !== 0) {
      const fd = openat2(at.fd, nameOf(at.name), { flags: O.RDONLY | O.NOFOLLOW | O.NONBLOCK });
      try {
        this.#recipe.save(this.#made.payload(path), fd, path);
      } finally {
        closeRead(fd);
      }
    }
    this.#made.clear(path);
    this.#directoryXattrs.delete(path);
  }

  /** A whiteout: what the layers below have as `name` goes. */
  #hide(parent: ByteString, name: ByteString): void {
    if (this.#free !== undefined) {
      this.#free.hide(this.#tree, parent, name);
      return;
    }
    const directory = this.#tree.find(parent);
    const stat = directory === undefined ? undefined : findStat(directory.fd, name);
    if (directory === undefined || stat === undefined) return;
    const path = joinPath(directory.path, name);
    const flags = this.#made.get(path);
    if ((flags & (made.entry | made.above | made.fresh)) === 0) this.#tree.remove(directory, name, stat);
    else if (isDirectory(stat.mode)) {
      this.#purge({ fd: directory.fd, name }, path);
      this.#tree.forget();
    }
  }

  /** An opaque whiteout: what the layers below have inside goes, the directory itself stays. */
  #hideAll(path: ByteString): void {
    if (this.#free !== undefined) {
      this.#free.hideAll(this.#tree, path);
      return;
    }
    const directory = this.#tree.find(path);
    if (directory === undefined) return;
    if (directory.path === "" || (this.#made.get(directory.path) & made.fresh) === 0)
      this.#purgeChildren(directory.fd, directory.path);
    this.#tree.forget();
  }

  /** Takes from a directory that this layer has a part in all that is older, its attributes too. */
  #purge(at: Location, path: ByteString): void {
    const flags = this.#made.get(path);
    if ((flags & made.fresh) !== 0) return;
    const fd = openDirectory(at.fd, at.name);
    try {
      this.#purgeChildren(fd, path);
      const own = this.#directoryXattrs.get(path);
      for (const attribute of listXattrs(fd, ""))
        if (own?.has(attribute) !== true && attribute !== "security.selinux") removeXattr(fd, "", attribute);
      if ((flags & made.directory) === 0) resetDirectory(fd, "");
    } finally {
      closeRead(fd);
    }
    this.#made.add(path, made.fresh);
  }

  #purgeChildren(fd: number, path: ByteString): void {
    this.#kept?.note(path);
    for (const entry of readDirectory(fd)) {
      const name = bytesOf(entry);
      const stat = findStat(fd, name);
      if (stat === undefined) continue;
      const child = joinPath(path, name);
      const flags = this.#made.get(child);
      if ((flags & (made.entry | made.above | made.fresh)) === 0) this.#tree.removeAt({ fd, name }, child, stat);
      else if (isDirectory(stat.mode)) this.#purge({ fd, name }, child);
    }
  }
}
