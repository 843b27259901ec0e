/**
 * Makes a layer's tar again from its recipe (recipe-format.ts) and a read-only view of the layer's whole tree. Streams
 * in pieces of about 256 KiB; every payload's size and checksum are compared, and what the tree no longer gives back is
 * a data_loss that names the path. The digest over all of it is the caller's to check. Synchronous inside: for workers.
 */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { crc32, zstdDecompressSync } from "node:zlib";
import { EngineError, systemCode } from "../base/errors.ts";
import { AT_FDCWD, closeRead, O, openat2, RESOLVE } from "../host/sys.ts";
import { type ByteString, byteText, nameOf } from "./bytes.ts";
import { blockHeader, endLength, kind, largestBlock, recipeEnd, recipeMagic, record } from "./recipe-format.ts";

const pieceSize = 256 * 1024;

/** A file that the tree no longer gives back as it was; `missing` when nothing can be opened there. */
export type LostFile = { readonly path: string; readonly how: "missing" | "changed"; readonly message: string };

export type RestoreOptions = {
  /** Told of every lost file; something of the right length stands in its place, so that the headers after it can be read. */
  readonly onLost?: (file: LostFile) => void;
};

/** The tar, bit for bit. `root` is a path of our own choice. Without `onLost` the first lost file is a data_loss. */
export async function* restoreTar(
  recipePath: string,
  root: string,
  options: RestoreOptions = {},
): AsyncGenerator<Uint8Array, void, undefined> {
  using recipe = new Recipe(recipePath);
  const rootFd = openat2(AT_FDCWD, root, { flags: O.RDONLY | O.DIRECTORY });
  try {
    yield* inPieces(contents(recipe, rootFd, options));
  } finally {
    closeRead(rootFd);
  }
}

/** Literals, and the pieces of payloads. */
function* contents(recipe: Recipe, rootFd: number, { onLost }: RestoreOptions): Generator<Uint8Array, void, undefined> {
  const saved = new SavedContents(recipe);
  let number = 0;
  for (const block of recipe.blocks(kind.main)) {
    const fields = new Fields(block, recipe);
    while (!fields.ended) {
      const what = fields.byte();
      if (what === record.literal) yield fields.bytes(fields.varint());
      else if (what === record.payload) yield* payload(fields, saved, { number: number++, rootFd, onLost });
      else throw recipe.damaged();
    }
  }
}

type PayloadPlace = {
  readonly number: number;
  readonly rootFd: number;
  readonly onLost: RestoreOptions["onLost"] | undefined;
};

function* payload(fields: Fields, saved: SavedContents, at: PayloadPlace): Generator<Uint8Array, void, undefined> {
  const path = fields.bytes(fields.varint()).toString("latin1");
  const size = fields.varint();
  const expected = fields.uint32();
  const isSaved = saved.next === at.number;
  let sum = 0;
  let done = 0;
  try {
    for (const piece of isSaved ? saved.content(size) : fileContent(at.rootFd, path, size)) {
      sum = crc32(piece, sum);
      done += piece.length;
      yield piece;
    }
    if (sum !== expected) throw lost(path, "its content has changed");
  } catch (error) {
    if (at.onLost === undefined || isSaved || !(error instanceof EngineError)) throw error;
    const how = systemCode(error.cause) === "ENOENT" ? "missing" : "changed";
    at.onLost({ path: byteText(path), how, message: error.message });
    yield* zeros(size - done);
  }
}

function* zeros(length: number): Generator<Uint8Array, void, undefined> {
  for (let left = length; left > 0; left -= pieceSize) yield Buffer.alloc(Math.min(left, pieceSize));
}

function* fileContent(rootFd: number, path: ByteString, size: number): Generator<Uint8Array, void, undefined> {
  const fd = openPayload(rootFd, path);
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile() || stat.size !== size) throw lost(path, `it is no file of ${size} bytes any more`);
    for (let left = size; left > 0; ) {
      const buffer = Buffer.allocUnsafe(Math.min(left, pieceSize));
      const length = readSync(fd, buffer, 0, buffer.length, null);
      if (length === 0) throw lost(path, "it ends early");
      left -= length;
      yield buffer.subarray(0, length);
    }
  } finally {
    closeRead(fd);
  }
}

/** Nothing, or something else, stands where the file stood. */
const gone: ReadonlySet<string> = new Set(["ENOENT", "ENOTDIR", "ELOOP", "ENXIO", "EISDIR", "ENODEV"]);

function openPayload(rootFd: number, path: ByteString): number {
  try {
    const resolve = RESOLVE.IN_ROOT | RESOLVE.NO_SYMLINKS | RESOLVE.NO_MAGICLINKS;
    return openat2(rootFd, nameOf(path), { flags: O.RDONLY | O.NOFOLLOW | O.NONBLOCK, resolve });
  } catch (error) {
    // What the kernel could not do just now says nothing about the layer.
    if (!gone.has(systemCode(error) ?? "")) throw error;
    throw lost(path, `it cannot be opened (${systemCode(error)})`, error);
  }
}

const lost = (path: ByteString, why: string, cause?: unknown): EngineError =>
  new EngineError(
    "data_loss",
    `layer file /${byteText(path)}: ${why}; the layer was modified on disk. Re-pulling or rebuilding the image may resolve this`,
    { cause },
  );

/** Joins small pieces, so that a reader is not woken for each header. */
function* inPieces(source: Iterable<Uint8Array>): Generator<Uint8Array, void, undefined> {
  let buffer = Buffer.allocUnsafe(pieceSize);
  let used = 0;
  for (const piece of source) {
    if (used + piece.length > pieceSize && used > 0) {
      yield buffer.subarray(0, used);
      buffer = Buffer.allocUnsafe(pieceSize);
      used = 0;
    }
    if (piece.length >= pieceSize) {
      yield piece;
      continue;
    }
    buffer.set(piece, used);
    used += piece.length;
  }
  if (used > 0) yield buffer.subarray(0, used);
}

/** The recipe file: its blocks, by kind. */
class Recipe implements Disposable {
  readonly #path: string;
  readonly #fd: number;
  readonly #mainEnd: number;
  readonly #savedEnd: number;

  constructor(path: string) {
    this.#path = path;
    this.#fd = openSync(path, "r");
    try {
      const size = fstatSync(this.#fd).size;
      const start = this.#read(0, recipeMagic.length);
      const end = this.#read(Math.max(size - endLength, 0), endLength);
      if (!start.equals(recipeMagic) || end[0] !== kind.end || !end.subarray(17).equals(recipeEnd))
        throw this.damaged();
      this.#mainEnd = Number(end.readBigUInt64LE(1));
      this.#savedEnd = size - endLength;
    } catch (error) {
      closeSync(this.#fd);
      throw error;
    }
  }

  damaged(): EngineError {
    return new EngineError("data_loss", `layer recipe ${this.#path} is damaged or was never finished`);
  }

  *blocks(of: number): Generator<Buffer, void, undefined> {
    let at = of === kind.main ? recipeMagic.length : this.#mainEnd;
    const end = of === kind.main ? this.#mainEnd : this.#savedEnd;
    while (at < end) {
      const header = this.#read(at, blockHeader);
      const raw = header.readUInt32LE(1);
      const stored = header.readUInt32LE(5);
      if (header[0] !== of || raw > largestBlock || at + blockHeader + stored > end) throw this.damaged();
      yield this.#decompress(this.#read(at + blockHeader, stored), raw);
      at += blockHeader + stored;
    }
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }

  #decompress(frame: Buffer, length: number): Buffer {
    let block: Buffer;
    try {
      block = zstdDecompressSync(frame, { maxOutputLength: largestBlock });
    } catch {
      throw this.damaged();
    }
    if (block.length !== length) throw this.damaged();
    return block;
  }

  #read(position: number, length: number): Buffer {
    const buffer = Buffer.alloc(length);
    for (let at = 0; at < length; ) {
      const read = readSync(this.#fd, buffer, at, length - at, position + at);
      if (read === 0) throw this.damaged();
      at += read;
    }
    return buffer;
  }
}

/** Reads fields of a block. */
class Fields {
  readonly #block: Buffer;
  readonly #recipe: Recipe;
  #at = 0;

  constructor(block: Buffer, recipe: Recipe) {
    this.#block = block;
    this.#recipe = recipe;
  }

  get ended(): boolean {
    return this.#at >= this.#block.length;
  }

  byte(): number {
    const byte = this.#block[this.#at++];
    if (byte === undefined) throw this.#recipe.damaged();
    return byte;
  }

  varint(): number {
    let value = 0;
    for (let scale = 1; scale < 2 ** 53; scale *= 128) {
      const byte = this.byte();
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
    throw this.#recipe.damaged();
  }

  bytes(length: number): Buffer {
    const taken = this.rest(length);
    if (taken.length !== length) throw this.#recipe.damaged();
    return taken;
  }

  /** At most `limit` bytes of what is left. */
  rest(limit: number): Buffer {
    const taken = this.#block.subarray(this.#at, this.#at + limit);
    this.#at += taken.length;
    return taken;
  }

  uint32(): number {
    return this.bytes(4).readUInt32LE(0);
  }
}

/** The contents that were saved, in the order of their numbers. */
class SavedContents {
  /** The number of the next saved payload; -1 when there is none left. */
  next = -1;
  readonly #blocks: Iterator<Buffer>;
  readonly #recipe: Recipe;
  #fields: Fields | undefined;

  constructor(recipe: Recipe) {
    this.#recipe = recipe;
    this.#blocks = recipe.blocks(kind.saved);
    this.#advance();
  }

  *content(size: number): Generator<Uint8Array, void, undefined> {
    for (let left = size; left > 0; ) {
      const piece = this.#here()?.rest(left);
      if (piece === undefined) throw this.#recipe.damaged();
      left -= piece.length;
      yield piece;
    }
    this.#advance();
  }

  #advance(): void {
    this.next = this.#here()?.varint() ?? -1;
  }

  /** The block that holds the next byte. */
  #here(): Fields | undefined {
    if (this.#fields === undefined || this.#fields.ended) {
      const next = this.#blocks.next();
      this.#fields = next.done === true ? undefined : new Fields(next.value, this.#recipe);
    }
    return this.#fields;
  }
}
