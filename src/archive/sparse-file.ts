/**
 * Files with holes in a tar, in the form that GNU tar calls sparse 1.0: the entry's content begins with a map, decimal numbers
 * on lines (how many extents, then offset and length of each), filled up to a block with NULs, and the data of the extents
 * follow. A file that ends with a hole has an empty extent at its end. For workers.
 */
import { ftruncateSync, readSync, writeSync } from "node:fs";
import { EngineError } from "../base/errors.ts";
import { dataExtents, type Extent } from "../host/copy.ts";
import { quoted } from "./bytes.ts";
import type { EntryContent } from "./place-entry.ts";
import type { TarEntry } from "./read-tar.ts";
import { blockSize } from "./tar-header.ts";
import type { TarWriter } from "./write-tar.ts";

export type SparseMap = { readonly extents: readonly Extent[]; readonly text: Buffer; readonly size: number };

/** A file in more pieces is written whole, and one that claims more is refused. */
const mostExtents = 100_000;

/** Undefined for a file without holes, or with too many. */
export function sparseMapOf(fd: number, size: number): SparseMap | undefined {
  const extents: Extent[] = [];
  let data = 0;
  for (const extent of dataExtents(fd, size)) {
    if (extents.push(extent) > mostExtents) return undefined;
    data += extent.end - extent.start;
  }
  if (data === size) return undefined;
  if (extents.at(-1)?.end !== size) extents.push({ start: size, end: size });
  const lines = [extents.length, ...extents.flatMap(({ start, end }) => [start, end - start])];
  const text = Buffer.from(`${lines.join("\n")}\n`);
  const padded = Buffer.alloc(Math.ceil(text.length / blockSize) * blockSize);
  text.copy(padded);
  return { extents, text: padded, size: padded.length + data };
}

/** The content of an entry that was begun with the map's size. What became shorter reads as zeros. */
export async function writeSparse(tar: TarWriter, fd: number, { extents, text }: SparseMap): Promise<void> {
  await tar.data(text);
  for (const { start, end } of extents)
    for (let at = start; at < end; ) {
      const space = await tar.space();
      const wanted = Math.min(space.length, end - at);
      const length = readSync(fd, space, 0, wanted, at);
      if (length < wanted) space.fill(0, length, wanted);
      tar.filled(wanted);
      at += wanted;
    }
}

/** Fills an empty file from an entry's content. Throws invalid_argument for a map that cannot be. */
export async function readSparse(fd: number, entry: TarEntry, reader: EntryContent): Promise<void> {
  const size = entry.sparseSize ?? 0;
  const content = new Content(entry, reader);
  const count = await content.number();
  if (count > mostExtents) throw broken(entry);
  const extents: Extent[] = [];
  for (let index = 0; index < count; index++) {
    const start = await content.number();
    const end = start + (await content.number());
    if (start < (extents.at(-1)?.end ?? 0) || end > size) throw broken(entry);
    extents.push({ start, end });
  }
  await content.endMap();
  ftruncateSync(fd, size);
  for (const { start, end } of extents)
    for (let at = start; at < end; ) {
      const piece = await content.take(end - at);
      for (let done = 0; done < piece.length; ) done += writeSync(fd, piece, done, piece.length - done, at + done);
      at += piece.length;
    }
  if (!(await content.isEnded())) throw broken(entry);
}

const broken = (entry: TarEntry): EngineError =>
  new EngineError("invalid_argument", `invalid tar: the sparse file ${quoted(entry.path)} has a map that cannot be`);

class Content {
  readonly #entry: TarEntry;
  readonly #reader: EntryContent;
  #piece: Buffer = Buffer.alloc(0);
  #taken = 0;

  constructor(entry: TarEntry, reader: EntryContent) {
    this.#entry = entry;
    this.#reader = reader;
  }

  async take(limit: number): Promise<Buffer> {
    if (await this.isEnded()) throw broken(this.#entry);
    const taken = this.#piece.subarray(0, limit);
    this.#piece = this.#piece.subarray(taken.length);
    this.#taken += taken.length;
    return taken;
  }

  async isEnded(): Promise<boolean> {
    while (this.#piece.length === 0) {
      const next = await this.#reader.read();
      if (next === undefined) return true;
      this.#piece = next;
    }
    return false;
  }

  /** Digits and a line end. */
  async number(): Promise<number> {
    let text = "";
    for (;;) {
      const character = (await this.take(1)).toString("latin1");
      if (character === "\n") break;
      text += character;
      if (!/^[0-9]{1,16}$/.test(text)) throw broken(this.#entry);
    }
    const value = text === "" ? Number.NaN : Number(text);
    if (!Number.isSafeInteger(value)) throw broken(this.#entry);
    return value;
  }

  async endMap(): Promise<void> {
    for (let left = (blockSize - (this.#taken % blockSize)) % blockSize; left > 0; )
      left -= (await this.take(left)).length;
  }
}
