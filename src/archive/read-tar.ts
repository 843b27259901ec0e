/**
 * Reads a tar as a sequence of entries from any stream of bytes: v7, ustar, PAX, GNU long names, base-256 numbers.
 * Everything in it is hostile: extended headers are capped, numbers are checked, nothing is kept whole.
 *
 * Promises: `next` yields entries in order; the content of one is read by `read` before the next `next`, which skips
 * what is left. What is here already is given by `nextHere` and `readHere` without a promise: most entries are small. Global PAX headers change nothing. An archive may end without its two zero blocks; whatever follows
 * them is read to the end of the input. `onRaw` sees, in order, every byte that `read` did not hand out: headers,
 * extended headers, padding, skipped content, the end and what trails it. Errors: invalid_argument, unsupported.
 */
import { EngineError } from "../base/errors.ts";
import { ByteReader } from "./byte-reader.ts";
import { type ByteString, quoted } from "./bytes.ts";
import { parsePax, parsePaxTime } from "./pax.ts";
import { blockSize, isZeroBlock, parseHeader, type RawHeader } from "./tar-header.ts";

export type EntryType = "file" | "link" | "symlink" | "char" | "block" | "directory" | "fifo";

export type TarEntry = {
  /** As written: it may be absolute, hold `..`, or end in a slash. */
  readonly path: ByteString;
  readonly link: ByteString;
  readonly type: EntryType;
  /** The twelve permission bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Bytes of content that follow. */
  readonly size: number;
  /** Nanoseconds since the epoch. */
  readonly mtime: bigint;
  readonly major: number;
  readonly minor: number;
  readonly xattrs: ReadonlyMap<string, Buffer>;
  /** The file's size, where the content is a GNU sparse map (1.0) and the data that it names. */
  readonly sparseSize?: number;
};

export type TarReaderOptions = {
  /** Every byte that is not handed out as content. The view is good during the call only. */
  readonly onRaw?: (bytes: Uint8Array) => void;
  /** Every byte of the input, as it comes. */
  readonly onChunk?: (chunk: Uint8Array) => void;
  /** Sparse files (GNU, form 1.0) are given out with their map; refused otherwise, as all other forms are. */
  readonly sparse?: boolean;
};

/** No honest path or set of attributes is longer; a hostile one must not fill the memory. */
const longestRecord = 1024 * 1024;
const xattrPrefix = "SCHILY.xattr.";
const noXattrs: ReadonlyMap<string, Buffer> = new Map();
const types: Readonly<Record<string, EntryType>> = {
  "\0": "file",
  "0": "file",
  "7": "file",
  "1": "link",
  "2": "symlink",
  "3": "char",
  "4": "block",
  "5": "directory",
  "6": "fifo",
};

/** Where a header has its flag, and those that stand for an entry, whatever comes before. */
const flagOffset = 156;
const plainFlags: ReadonlySet<number | undefined> = new Set(Object.keys(types).map((flag) => flag.charCodeAt(0)));
const noContent = Buffer.alloc(0);

/** What extended headers say about the next entry. */
type Extensions = { pax?: Map<ByteString, ByteString>; path?: ByteString; link?: ByteString };
const noExtensions: Extensions = {};

export class TarReader {
  readonly #reader: ByteReader;
  readonly #onRaw: (bytes: Uint8Array) => void;
  readonly #sparse: boolean;
  #left = 0;
  #padding = 0;
  #path: ByteString = "";
  #ended = false;

  constructor(input: AsyncIterable<Uint8Array>, options: TarReaderOptions = {}) {
    this.#reader = new ByteReader(input, options.onChunk);
    this.#onRaw = options.onRaw ?? (() => undefined);
    this.#sparse = options.sparse === true;
  }

  /** The next entry, or undefined when the archive and its input have ended. */
  async next(): Promise<TarEntry | undefined> {
    if (this.#ended) return undefined;
    const extensions: Extensions = {};
    for (;;) {
      await this.#skip();
      const offset = this.#reader.position;
      const header = await this.#header();
      if (header === undefined) return this.#drain();
      if (await this.#extension(header, extensions)) continue;
      const entry = this.#sparse ? sparseOf(header, extensions, offset) : entryOf(header, extensions, offset);
      this.#path = entry.path;
      this.#expect(entry.size);
      return entry;
    }
  }

  /** The next entry, where its header is here and is all that says it. Undefined: ask `next`. */
  nextHere(): TarEntry | undefined {
    const reader = this.#reader;
    const padding = this.#padding;
    if (this.#ended || this.#left > 0 || !reader.has(padding + blockSize)) return undefined;
    if (reader.at(padding) === 0 || !plainFlags.has(reader.at(padding + flagOffset))) return undefined;
    if (padding > 0) this.#onRaw(reader.take(padding));
    const offset = reader.position;
    const block = reader.take(blockSize);
    this.#onRaw(block);
    const entry = entryOf(parseHeader(block, offset), noExtensions, offset);
    this.#path = entry.path;
    this.#expect(entry.size);
    return entry;
  }

  /** All that is left of the entry's content, where it is here. The view is good until the next call. */
  readHere(): Buffer | undefined {
    if (this.#left === 0) return noContent;
    if (!this.#reader.has(this.#left)) return undefined;
    const content = this.#reader.take(this.#left);
    this.#left = 0;
    return content;
  }

  /** The next piece of the entry's content; undefined at its end. The view is good until the next call. */
  async read(): Promise<Buffer | undefined> {
    if (this.#left === 0) return undefined;
    const piece = await this.#reader.piece(this.#left);
    if (piece === undefined) throw this.#truncated(quoted(this.#path));
    this.#left -= piece.length;
    return piece;
  }

  /** Gives the input up. */
  async close(): Promise<void> {
    this.#ended = true;
    await this.#reader.close();
  }

  #expect(size: number): void {
    this.#left = size;
    this.#padding = (blockSize - (size % blockSize)) % blockSize;
  }

  /** Passes over what is left of an entry. Padding may be missing at the very end of an archive. */
  async #skip(): Promise<void> {
    for (let piece = await this.#rest(); piece !== undefined; piece = await this.#rest()) this.#onRaw(piece);
    if (this.#padding === 0) return;
    if (!this.#reader.has(this.#padding)) await this.#reader.fill(this.#padding);
    this.#onRaw(this.#reader.take(this.#padding));
    this.#padding = 0;
  }

  async #rest(): Promise<Buffer | undefined> {
    return this.#left === 0 ? undefined : this.read();
  }

  /** The next header, or undefined at the archive's end. */
  async #header(): Promise<RawHeader | undefined> {
    const first = await this.#block();
    if (first === undefined) return undefined;
    if (!isZeroBlock(first)) return parseHeader(first, this.#reader.position - blockSize);
    const second = await this.#block();
    if (second === undefined || isZeroBlock(second)) return undefined;
    const offset = this.#reader.position - blockSize;
    throw new EngineError("invalid_argument", `invalid tar: a header follows a zero block at offset ${offset}`);
  }

  async #block(): Promise<Buffer | undefined> {
    if (!this.#reader.has(blockSize)) {
      const here = await this.#reader.fill(blockSize);
      if (here === 0) return undefined;
      if (here < blockSize) throw this.#truncated("a header");
    }
    const block = this.#reader.take(blockSize);
    this.#onRaw(block);
    return block;
  }

  /** Takes an extended header in; false when `header` is an entry of its own. */
  async #extension(header: RawHeader, extensions: Extensions): Promise<boolean> {
    const { flag } = header;
    if (flag !== "x" && flag !== "g" && flag !== "L" && flag !== "K") return false;
    const where = `the extended header at offset ${this.#reader.position - blockSize}`;
    if (header.size < 0 || header.size > longestRecord)
      throw new EngineError("invalid_argument", `invalid tar: ${where} has ${header.size} bytes (limit 1 MiB)`);
    this.#expect(header.size);
    if ((await this.#reader.fill(header.size)) < header.size) throw this.#truncated(where);
    const data = this.#reader.take(header.size);
    this.#left = 0;
    this.#onRaw(data);
    if (flag === "x") extensions.pax = parsePax(data, where);
    else if (flag === "g") refuseSparse(parsePax(data, where), () => where);
    else extensions[flag === "L" ? "path" : "link"] = untilNul(data);
    return true;
  }

  /** Reads to the end of the input, so that a digest over it is whole. */
  async #drain(): Promise<undefined> {
    for (;;) {
      const piece = await this.#reader.piece(Number.MAX_SAFE_INTEGER);
      if (piece === undefined) break;
      this.#onRaw(piece);
    }
    this.#ended = true;
    return undefined;
  }

  #truncated(what: string): EngineError {
    return new EngineError(
      "invalid_argument",
      `invalid tar: unexpected EOF in ${what} at offset ${this.#reader.position}`,
    );
  }
}

function untilNul(data: Buffer): ByteString {
  const end = data.indexOf(0);
  return data.toString("latin1", 0, end < 0 ? data.length : end);
}

function refuseSparse(pax: ReadonlyMap<ByteString, ByteString>, where: () => string): void {
  for (const key of pax.keys())
    if (key.startsWith("GNU.sparse."))
      throw new EngineError("unsupported", `${where()} is a sparse file: ${sparseAdvice}`);
}

const sparseAdvice = "sparse tar entries are not supported, write the archive without --sparse";

const sparseNames = ["major", "minor", "name", "realsize"] as const;

/** As {@link entryOf}, for a sparse file of the form 1.0 too. */
function sparseOf(header: RawHeader, extensions: Extensions, offset: number): TarEntry {
  const pax = new Map(extensions.pax);
  const [major, minor, name, realsize] = sparseNames.map((key) => pax.get(`GNU.sparse.${key}`));
  if (major !== "1" || minor !== "0" || !name) return entryOf(header, extensions, offset);
  for (const key of sparseNames) pax.delete(`GNU.sparse.${key}`);
  pax.set("path", name);
  const entry = entryOf(header, { ...extensions, pax, path: "" }, offset);
  const sparseSize = /^[0-9]{1,16}$/.test(realsize ?? "") ? Number(realsize) : Number.NaN;
  if (!Number.isSafeInteger(sparseSize) || entry.type !== "file")
    throw new EngineError(
      "invalid_argument",
      `invalid tar: entry ${quoted(name)} at offset ${offset} is a broken sparse file`,
    );
  return { ...entry, sparseSize };
}

/** Puts header and extensions together. GNU long names win over PAX, PAX over the header. */
function entryOf(header: RawHeader, extensions: Extensions, offset: number): TarEntry {
  const pax = extensions.pax;
  const path = extensions.path || pax?.get("path") || header.path;
  const where = (): string => `entry ${quoted(path)} at offset ${offset}`;
  if (header.flag === "S") throw new EngineError("unsupported", `${where()}: ${sparseAdvice}`);
  if (pax !== undefined) refuseSparse(pax, where);
  const type = header.flag === "\0" && path.endsWith("/") ? "directory" : types[header.flag];
  if (type === undefined)
    throw new EngineError("unsupported", `${where()} has the unknown tar type ${JSON.stringify(header.flag)}`);
  const size = numberOf(pax, "size", header.size, where);
  if (size < 0) throw new EngineError("invalid_argument", `invalid tar: ${where()} has a negative size`);
  return {
    path,
    link: extensions.link || pax?.get("linkpath") || header.link,
    type,
    mode: header.mode & 0o7777,
    uid: ownerOf(numberOf(pax, "uid", header.uid, where), where),
    gid: ownerOf(numberOf(pax, "gid", header.gid, where), where),
    // Only files have content; what other types say here is a habit of old programs.
    size: type === "file" ? size : 0,
    mtime: timeOf(pax?.get("mtime"), header.mtime, where),
    major: header.major,
    minor: header.minor,
    xattrs: pax === undefined ? noXattrs : xattrsOf(pax),
  };
}

function numberOf(
  pax: ReadonlyMap<ByteString, ByteString> | undefined,
  ...[key, fallback, where]: [string, number, () => string]
): number {
  const text = pax?.get(key);
  if (text === undefined || text === "") return fallback;
  const value = /^-?[0-9]{1,20}$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(value))
    throw new EngineError("invalid_argument", `invalid tar: ${where()} has the ${key} ${quoted(text)}`);
  return value;
}

/** (uid_t)-1 means "leave it" to the kernel, so it can be nobody's number. */
function ownerOf(id: number, where: () => string): number {
  if (id >= 0 && id < 0xffff_ffff) return id;
  throw new EngineError("invalid_argument", `invalid tar: ${where()} has the owner ${id}`);
}

function timeOf(text: ByteString | undefined, seconds: number, where: () => string): bigint {
  if (text === undefined || text === "") return BigInt(seconds) * 1_000_000_000n;
  const time = parsePaxTime(text);
  if (time === undefined)
    throw new EngineError("invalid_argument", `invalid tar: ${where()} has the mtime ${quoted(text)}`);
  return time;
}

function xattrsOf(pax: ReadonlyMap<ByteString, ByteString>): ReadonlyMap<string, Buffer> {
  let xattrs: Map<string, Buffer> | undefined;
  for (const [key, value] of pax) {
    if (!key.startsWith(xattrPrefix)) continue;
    xattrs ??= new Map();
    xattrs.set(Buffer.from(key.slice(xattrPrefix.length), "latin1").toString(), Buffer.from(value, "latin1"));
  }
  return xattrs ?? noXattrs;
}
