/**
 * Puts entries into an empty tree while they are written to a tar, so that nobody has to unpack that: whoever reads the
 * tar then knows what stands there (apply-layer.ts, `copied`). What comes to be is what unpacking would make of the
 * same entries. The root's own attributes and the times of directories are left to that reader, who knows the end.
 */
import { ftruncateSync } from "node:fs";
import { type ByteString, entryPath } from "./bytes.ts";
import { OpenFiles } from "./open-files.ts";
import { beginFile, explained, type NewFile, type PlaceOptions, placeEntry } from "./place-entry.ts";
import type { TarEntry } from "./read-tar.ts";
import { RootTree } from "./root-tree.ts";
import type { NewEntry } from "./write-tar.ts";

export type CopyOptions = Pick<PlaceOptions, "escapeXattrs" | "refusedXattrs"> & {
  /** Files that whoever reads the tar may fill (open-files.ts). */
  readonly openFiles?: SharedArrayBuffer;
};

export class TreeCopy implements Disposable {
  readonly #tree: RootTree;
  readonly #options: PlaceOptions;
  readonly #openFiles: OpenFiles | undefined;

  /** `root` is the host path of the tree. */
  constructor(root: string, { openFiles, ...options }: CopyOptions) {
    this.#tree = new RootTree(root);
    this.#options = options;
    this.#openFiles = openFiles === undefined ? undefined : new OpenFiles(openFiles);
  }

  /** An entry without content. */
  async add(entry: NewEntry): Promise<void> {
    const path = entryPath(entry.path);
    if (path !== "") await placeEntry(this.#tree, asRead(entry), path, noContent, this.#options);
  }

  /** A file, whose content follows; undefined when the tar's reader fills it. */
  file(entry: NewEntry): CopiedFile | undefined {
    const file = new CopiedFile(this.#tree, asRead(entry), this.#options);
    return this.#openFiles !== undefined && file.giveTo(this.#openFiles) ? undefined : file;
  }

  [Symbol.dispose](): void {
    this.#tree[Symbol.dispose]();
  }
}

/** A file that is being copied. */
export class CopiedFile implements Disposable {
  readonly #entry: TarEntry;
  readonly #file: NewFile;
  #written = 0;

  constructor(tree: RootTree, entry: TarEntry, options: PlaceOptions) {
    this.#entry = entry;
    this.#file = this.#explained(() => beginFile(tree, entry, entryPath(entry.path), options));
  }

  /** True when the other end has it now, or will: it is closed there. */
  giveTo(openFiles: OpenFiles): boolean {
    if (!this.#file.isPlain) {
      openFiles.skip();
      return false;
    }
    this.#explained(() => this.#file.own());
    return openFiles.offer(this.#entry.path, this.#file.fd);
  }

  write(piece: Uint8Array): void {
    this.#explained(() => this.#file.write(piece));
    this.#written += piece.length;
  }

  /** What is missing of a file that shrank is zeros, as in the tar. */
  finish(): void {
    this.#explained(() => {
      if (this.#written < this.#entry.size) ftruncateSync(this.#file.fd, this.#entry.size);
      this.#file.finish();
    });
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }

  #explained<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      throw explained(error, this.#entry);
    }
  }
}

const noContent = { read: async () => undefined };
const noXattrs: TarEntry["xattrs"] = new Map();

/** As a reader of the tar has it. */
function asRead(entry: NewEntry): TarEntry {
  const {
    path,
    type,
    mode,
    uid = 0,
    gid = 0,
    size = 0,
    mtime = 0,
    mtimeNsec = 0,
    link = "",
    major = 0,
    minor = 0,
  } = entry;
  const time = BigInt(mtime) * 1_000_000_000n + BigInt(mtimeNsec);
  const xattrs = entry.xattrs === undefined || entry.xattrs.size === 0 ? noXattrs : asBuffers(entry.xattrs);
  return { path, type, mode: mode & 0o7777, uid, gid, size, mtime: time, link, major, minor, xattrs };
}

const asBuffers = (xattrs: ReadonlyMap<ByteString, Uint8Array>): TarEntry["xattrs"] =>
  new Map([...xattrs].map(([name, value]) => [name, Buffer.from(value)]));
