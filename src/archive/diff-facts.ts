/**
 * What a layer tells of its directories when its tar is unpacked on its own, without the tree below (see
 * docs/decisions/004): the facts by which settle-diff.ts decides whether the result means the same over a given parent.
 *
 * Words: a directory is *described* by an entry of its own, *implied* by what an entry put below it, *marked* when only
 * a whiteout leads to it; *closed* when nothing of a lower directory of that name shows through, not even attributes;
 * *opaque* when nothing inside does; *touched* when something but directories came or went in it; *gone* when a later
 * entry took it away. A diff is *dependent* when already its unpacking needed the tree below.
 */
import { crc32, zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { EngineError } from "../base/errors.ts";
import type { ByteString } from "./bytes.ts";

/** Flags of a directory. */
export const fact = { described: 1, implied: 2, marked: 4, closed: 8, opaque: 16, touched: 32, gone: 64 } as const;

/** Parents stand before what is in them; "" is the root. */
export type DiffFacts = {
  readonly directories: ReadonlyMap<ByteString, number>;
  /** Paths of whiteouts that stand in the diff. */
  readonly whiteouts: readonly ByteString[];
};

/** A tar with more directories and whiteouts is not shared: the list would outgrow its use. */
const mostFacts = 200_000;
const magic = "STRATA facts 1\n";
const whiteoutKind = 255;
const largest = 256 * 1024 * 1024;

export const parentOf = (path: ByteString): ByteString => path.slice(0, Math.max(path.lastIndexOf("/"), 0));

/** Gathers facts while a tar is unpacked; paths are real ones. */
export class FactsRecorder {
  readonly #directories = new Map<ByteString, number>([["", 0]]);
  readonly whiteouts = new Set<ByteString>();
  /** Names of what was no directory, made by this layer, and went. */
  readonly #replaced = new Set<ByteString>();
  #dependent = false;

  get dependent(): boolean {
    return this.#dependent || this.#directories.size + this.whiteouts.size > mostFacts;
  }

  /** The diff cannot stand for the layer: what it means was decided below. */
  setDependent(): void {
    this.#dependent = true;
  }

  flags(path: ByteString): number {
    return this.#directories.get(path) ?? 0;
  }

  directories(): IterableIterator<[ByteString, number]> {
    return this.#directories.entries();
  }

  /** A directory was made, or given attributes. One that stands where the layer had something else hides what is below. */
  directory(path: ByteString, how: number): void {
    const replaced = this.#replaced.has(path) ? fact.closed : 0;
    this.#directories.set(path, (this.flags(path) & ~fact.gone) | how | replaced);
  }

  /** Something that is no directory was made. */
  placed(path: ByteString): void {
    this.#touch(path);
  }

  /** Something of this layer went. */
  removed(path: ByteString, isDirectory: boolean): void {
    this.#touch(path);
    if (isDirectory) this.#directories.set(path, (this.flags(path) & (fact.implied | fact.marked)) | fact.gone);
    else this.#replaced.add(path);
  }

  add(path: ByteString, flags: number): void {
    this.#directories.set(path, this.flags(path) | flags);
  }

  /** True when nothing of the layers below shows inside the directory. */
  isShut(path: ByteString): boolean {
    for (let at = path; ; at = parentOf(at)) {
      if ((this.flags(at) & (fact.closed | fact.opaque)) !== 0) return true;
      if (at === "") return false;
    }
  }

  /** The facts as they are kept. */
  encode(): Uint8Array {
    const parts: string[] = [];
    for (const [path, flags] of [...this.#directories].sort(([a], [b]) => (a < b ? -1 : 1)))
      parts.push(String.fromCharCode(flags + 1), path, "\0");
    for (const path of this.whiteouts) parts.push(String.fromCharCode(whiteoutKind), path, "\0");
    const text = Buffer.from(magic + parts.join(""), "latin1");
    const sum = Buffer.alloc(4);
    sum.writeUInt32LE(crc32(text));
    return zstdCompressSync(Buffer.concat([text, sum]));
  }

  #touch(path: ByteString): void {
    const parent = parentOf(path);
    this.#directories.set(parent, this.flags(parent) | fact.touched);
  }
}

/** Throws data_loss for what `encode` did not write. */
export function decodeFacts(bytes: Uint8Array): DiffFacts {
  const text = unpacked(bytes);
  const directories = new Map<ByteString, number>();
  const whiteouts: ByteString[] = [];
  for (const line of text.slice(magic.length).split("\0").slice(0, -1)) {
    const kind = line.charCodeAt(0);
    if (kind === whiteoutKind) whiteouts.push(line.slice(1));
    else directories.set(line.slice(1), kind - 1);
  }
  return { directories, whiteouts };
}

function unpacked(bytes: Uint8Array): string {
  let whole: Buffer;
  try {
    whole = zstdDecompressSync(bytes, { maxOutputLength: largest });
  } catch (cause) {
    throw new EngineError("data_loss", "the facts of a diff are damaged", { cause });
  }
  const text = whole.subarray(0, -4);
  if (
    whole.length < 4 ||
    crc32(text) !== whole.readUInt32LE(whole.length - 4) ||
    !text.toString("latin1").startsWith(magic)
  )
    throw new EngineError("data_loss", "the facts of a diff are damaged");
  return text.toString("latin1");
}
