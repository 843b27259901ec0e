/**
 * Writes tars that are the same bytes for the same entries: ustar headers, PAX records only for what a ustar field
 * cannot say (names over 100 bytes or in other scripts, large numbers, xattrs), times cut to seconds unless their fraction is
 * given, no user or group names. Output leaves in blocks of up to 256 KiB; a written block belongs to the receiver.
 */
import { EngineError } from "../base/errors.ts";
import { type ByteString, quoted } from "./bytes.ts";
import { formatPax, formatPaxTime } from "./pax.ts";
import type { EntryType } from "./read-tar.ts";
import { blockSize, headerSum } from "./tar-header.ts";

export type NewEntry = {
  /** Without a leading slash. Directories get their trailing slash here. */
  readonly path: ByteString;
  readonly type: EntryType;
  readonly mode: number;
  readonly uid?: number;
  readonly gid?: number;
  /** Bytes of content that follow; 0 for everything but files. */
  readonly size?: number;
  /** Seconds since the epoch. */
  readonly mtime?: number;
  /** What `mtime` leaves out, as a PAX record. */
  readonly mtimeNsec?: number;
  readonly link?: ByteString;
  readonly major?: number;
  readonly minor?: number;
  readonly xattrs?: ReadonlyMap<string, Uint8Array>;
  /** The file's size, where its content is a GNU sparse map (1.0) and the data that it names. */
  readonly sparseSize?: number;
};

const outputSize = 256 * 1024;
const flags: Readonly<Record<EntryType, string>> = {
  file: "0",
  link: "1",
  symlink: "2",
  char: "3",
  block: "4",
  directory: "5",
  fifo: "6",
};
/** Padding, and the end of an archive. Never written to. */
const zeros = Buffer.alloc(2 * blockSize);
const largestOctal7 = 0o7777777;
const largestOctal11 = 0o77777777777;

export class TarWriter {
  readonly #write: (chunk: Uint8Array) => Promise<void>;
  #buffer: Buffer = Buffer.allocUnsafeSlow(outputSize);
  #used = 0;
  #left = 0;
  #padding = 0;

  constructor(write: (chunk: Uint8Array) => Promise<void>) {
    this.#write = write;
  }

  /** Writes an entry and its content; `size` is the content's. */
  async add(entry: NewEntry, content: Uint8Array = new Uint8Array(0)): Promise<void> {
    await this.begin({ ...entry, size: content.length });
    await this.data(content);
    await this.end();
  }

  /** Writes an entry whose content is a stream of exactly `size` bytes. */
  async addStream(entry: NewEntry, content: AsyncIterable<Uint8Array>): Promise<void> {
    await this.begin(entry);
    for await (const chunk of content) await this.data(chunk);
    await this.end();
  }

  /** Writes an entry's header; `data` must follow with its content, then `end`. */
  async begin(entry: NewEntry): Promise<void> {
    const size = entry.type === "file" ? (entry.size ?? 0) : 0;
    const path = entry.type === "directory" && !entry.path.endsWith("/") ? `${entry.path}/` : entry.path;
    const { sparseSize } = entry;
    const records =
      sparseSize === undefined
        ? paxRecords(entry, path, size)
        : [...sparseRecords(path, sparseSize), ...paxRecords({ ...entry, path: sparsePath }, sparsePath, size)];
    if (records.length > 0) await this.#extend(path, records);
    if (this.#used + blockSize > outputSize) await this.#flush();
    this.#header({
      ...fieldsOf(entry),
      path: sparseSize === undefined ? path : sparsePath,
      size,
      flag: flags[entry.type],
    });
    this.#left = size;
    this.#padding = paddingOf(size);
  }

  /**
   * As `begin`, for a file that fits into what is left of the block: the space for its content, which the caller fills;
   * then `endHere` says how much. Undefined, and nothing is written: it does not fit.
   */
  beginHere(entry: NewEntry): Buffer | undefined {
    const size = entry.size ?? 0;
    const whole = blockSize + size + paddingOf(size);
    if (this.#used + whole > outputSize || paxRecords(entry, entry.path, size).length > 0) return undefined;
    this.#header({ ...fieldsOf(entry), path: entry.path, size, flag: flags[entry.type] });
    this.#left = size;
    return this.#buffer.subarray(this.#used, this.#used + size);
  }

  /** What is not filled is zeros (a file that shrank while it was read). */
  endHere(filled: number): void {
    const end = this.#used + this.#left + paddingOf(this.#left);
    this.#buffer.fill(0, this.#used + filled, end);
    this.#used = end;
    this.#left = 0;
  }

  /** An extended header, for what the entry's own has no room for. */
  async #extend(path: ByteString, records: readonly PaxRecord[]): Promise<void> {
    const data = Buffer.from(formatPax(records), "latin1");
    const name = `PaxHeaders.0/${path.replace(/\/$/, "").slice(-80).replace(/^.*\//, "")}`;
    if (this.#used + blockSize > outputSize) await this.#flush();
    this.#header({ ...noFields, path: name, mode: 0o644, size: data.length, flag: "x" });
    await this.#append(data);
    await this.#append(zeros.subarray(0, paddingOf(data.length)));
  }

  /** The caller has made room. */
  #header(fields: HeaderFields): void {
    const block = this.#buffer.subarray(this.#used, this.#used + blockSize);
    writeHeader(block, fields);
    this.#used += blockSize;
  }

  async data(content: Uint8Array): Promise<void> {
    if (content.length > this.#left) throw new EngineError("internal", "tar entry: more content than its header says");
    this.#left -= content.length;
    await this.#append(content);
  }

  /** Space for content that the caller fills by itself: then `filled` says how much it did. Never empty. */
  async space(): Promise<Buffer> {
    if (this.#used === outputSize) await this.#flush();
    return this.#buffer.subarray(this.#used, Math.min(outputSize, this.#used + this.#left));
  }

  filled(length: number): void {
    this.#left -= length;
    this.#used += length;
  }

  /** Bytes of content that are still missing. */
  get missing(): number {
    return this.#left;
  }

  /** Ends an entry. `pad` fills missing content with zeros (a file that shrank while it was read). */
  async end(pad = false): Promise<void> {
    if (this.#left > 0 && !pad) throw new EngineError("internal", "tar entry: less content than its header says");
    for (; this.#left > 0; ) {
      const space = await this.space();
      space.fill(0);
      this.filled(space.length);
    }
    const padding = this.#padding;
    this.#padding = 0;
    if (padding > 0) await this.#append(zeros.subarray(0, padding));
  }

  /** Sends what was written so far. */
  async flush(): Promise<void> {
    await this.#flush();
  }

  /** Writes the archive's end. */
  async finish(): Promise<void> {
    await this.#append(zeros);
    await this.#flush();
  }

  async #append(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; ) {
      if (this.#used === outputSize) await this.#flush();
      const part = bytes.subarray(at, at + outputSize - this.#used);
      this.#buffer.set(part, this.#used);
      this.#used += part.length;
      at += part.length;
    }
  }

  async #flush(): Promise<void> {
    if (this.#used === 0) return;
    const full = this.#buffer.subarray(0, this.#used);
    this.#buffer = Buffer.allocUnsafeSlow(outputSize);
    this.#used = 0;
    await this.#write(full);
  }
}

type PaxRecord = readonly [ByteString, ByteString];

const none: readonly PaxRecord[] = [];

/** Records for what the header cannot say; most entries need none. */
function paxRecords(entry: NewEntry, path: ByteString, size: number): readonly PaxRecord[] {
  const { uid = 0, gid = 0, mtime = 0, mtimeNsec = 0, link = "", xattrs } = entry;
  const fits =
    size <= largestOctal11 && uid <= largestOctal7 && gid <= largestOctal7 && mtime <= largestOctal11 && mtime >= 0;
  if (fits && mtimeNsec === 0 && (xattrs?.size ?? 0) === 0 && !needsPax(path) && !needsPax(link)) return none;
  const records: PaxRecord[] = [];
  if (needsPax(path)) records.push(["path", path]);
  if (needsPax(link)) records.push(["linkpath", link]);
  if (size > largestOctal11) records.push(["size", String(size)]);
  if (uid > largestOctal7) records.push(["uid", String(uid)]);
  if (gid > largestOctal7) records.push(["gid", String(gid)]);
  if (mtime < 0 || mtime > largestOctal11 || mtimeNsec > 0)
    records.push(["mtime", formatPaxTime(BigInt(mtime) * 1_000_000_000n + BigInt(mtimeNsec))]);
  for (const [name, value] of [...(xattrs ?? [])].sort(([a], [b]) => (a < b ? -1 : 1)))
    records.push([`SCHILY.xattr.${Buffer.from(name).toString("latin1")}`, Buffer.from(value).toString("latin1")]);
  return records;
}

/** What readers that know no sparse files see. */
const sparsePath = "GNUSparseFile.0/sparse";

const sparseRecords = (path: ByteString, size: number): readonly PaxRecord[] => [
  ["GNU.sparse.major", "1"],
  ["GNU.sparse.minor", "0"],
  ["GNU.sparse.name", path],
  ["GNU.sparse.realsize", String(size)],
];

const ascii = /^[\x00-\x7f]*$/;

/** A short name stands in the header as its bytes; readers take those as they are, whatever the script. */
const needsPax = (name: ByteString): boolean => name.length > 100 || (!ascii.test(name) && isUtf8(name));

function isUtf8(name: ByteString): boolean {
  const bytes = Buffer.from(name, "latin1");
  return Buffer.from(bytes.toString()).equals(bytes);
}

const paddingOf = (size: number): number => (blockSize - (size % blockSize)) % blockSize;

type HeaderFields = {
  readonly path: ByteString;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly mtime: number;
  readonly flag: string;
  readonly link: ByteString;
  readonly major: number;
  readonly minor: number;
};

const noFields = { uid: 0, gid: 0, mtime: 0, link: "", major: 0, minor: 0 } as const;

const fieldsOf = ({ mode, uid = 0, gid = 0, mtime = 0, link = "", major = 0, minor = 0 }: NewEntry) => ({
  mode: mode & 0o7777,
  uid: within(uid, largestOctal7),
  gid: within(gid, largestOctal7),
  mtime: within(mtime, largestOctal11),
  link,
  major,
  minor,
});

/** A header with no name and every number 0. */
const template = Buffer.alloc(blockSize);
for (const [start, length] of [
  [100, 8],
  [108, 8],
  [116, 8],
  [124, 12],
  [136, 12],
  [148, 7],
  [329, 8],
  [337, 8],
] as const)
  template.fill("0", start, start + length - 1);
template[155] = 0x20;
template.write("ustar\0" + "00", 257, "latin1");

/** Fills a block with a ustar header. */
function writeHeader(block: Buffer, fields: HeaderFields): void {
  const { path, mode, uid, gid, size, mtime, flag, link, major, minor } = fields;
  if (path.includes("\0")) throw new EngineError("internal", `tar entry ${quoted(path)}: NUL in its name`);
  block.set(template);
  block.write(path, 0, 100, "latin1");
  octal(block, 107, mode);
  octal(block, 115, uid);
  octal(block, 123, gid);
  octal(block, 135, within(size, largestOctal11));
  octal(block, 147, mtime);
  block[156] = flag.charCodeAt(0);
  if (link !== "") block.write(link, 157, 100, "latin1");
  octal(block, 336, major);
  octal(block, 344, minor);
  octal(block, 154, headerSum(block));
}

/** Puts digits over the template's zeros, from the right. */
function octal(block: Buffer, end: number, value: number): void {
  let at = end;
  let rest = value;
  for (; rest > 0x7fff_ffff; rest = Math.floor(rest / 8)) block[--at] = 0x30 + (rest % 8);
  for (; rest > 0; rest >>>= 3) block[--at] = 0x30 + (rest & 7);
}

/** What a field cannot hold stands in a PAX record; the field is 0 then. */
const within = (value: number, limit: number): number => (value < 0 || value > limit ? 0 : value);
