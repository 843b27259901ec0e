/**
 * Writes tars that are the same bytes for the same entries: ustar headers, PAX records only for what a ustar field
 * cannot say (names over 100 bytes or in other scripts, large numbers, xattrs), times cut to seconds unless their fraction is
 * given, no user or group names. Output leaves in blocks of up to 256 KiB; a written block belongs to the receiver.
 */
import { EngineError } from "../base/errors.ts";
import { type ByteString, quoted } from "./bytes.ts";
import { formatPax, formatPaxTime } from "./pax.ts";
import type { EntryType } from "./read-tar.ts";
import { blockSize } from "./tar-header.ts";

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
    for (const block of headerBlocks(entry, size)) await this.#append(block);
    this.#left = size;
    this.#padding = (blockSize - (size % blockSize)) % blockSize;
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
    await this.#append(Buffer.alloc(this.#padding));
    this.#padding = 0;
  }

  /** Writes the archive's end. */
  async finish(): Promise<void> {
    await this.#append(Buffer.alloc(2 * blockSize));
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

function headerBlocks(entry: NewEntry, size: number): Buffer[] {
  const path = entry.type === "directory" && !entry.path.endsWith("/") ? `${entry.path}/` : entry.path;
  const records = paxRecords({ ...entry, path }, size);
  const header = headerBlock({ ...entry, path }, size, flags[entry.type]);
  if (records.length === 0) return [header];
  const data = Buffer.from(formatPax(records), "latin1");
  const name = `PaxHeaders.0/${path.replace(/\/$/, "").slice(-80).replace(/^.*\//, "")}`;
  const extended = headerBlock({ path: name, type: "file", mode: 0o644 }, data.length, "x");
  return [extended, data, Buffer.alloc((blockSize - (data.length % blockSize)) % blockSize), header];
}

function paxRecords(entry: NewEntry, size: number): (readonly [ByteString, ByteString])[] {
  const records: (readonly [ByteString, ByteString])[] = [];
  const names = [
    ["path", entry.path],
    ["linkpath", entry.link ?? ""],
  ] as const;
  for (const [key, name] of names) if (needsPax(name)) records.push([key, name]);
  if (size > largestOctal11) records.push(["size", String(size)]);
  for (const key of ["uid", "gid"] as const)
    if ((entry[key] ?? 0) > largestOctal7) records.push([key, String(entry[key])]);
  const { mtime = 0, mtimeNsec = 0 } = entry;
  if (mtime < 0 || mtime > largestOctal11 || mtimeNsec > 0)
    records.push(["mtime", formatPaxTime(BigInt(mtime) * 1_000_000_000n + BigInt(mtimeNsec))]);
  for (const [name, value] of [...(entry.xattrs ?? [])].sort(([a], [b]) => (a < b ? -1 : 1)))
    records.push([`SCHILY.xattr.${Buffer.from(name).toString("latin1")}`, Buffer.from(value).toString("latin1")]);
  return records;
}

/** A short name stands in the header as its bytes; readers take those as they are, whatever the script. */
const needsPax = (name: ByteString): boolean => name.length > 100 || (!/^[\x00-\x7f]*$/.test(name) && isUtf8(name));

function isUtf8(name: ByteString): boolean {
  const bytes = Buffer.from(name, "latin1");
  return Buffer.from(bytes.toString()).equals(bytes);
}

function headerBlock(entry: NewEntry, size: number, flag: string): Buffer {
  if (entry.path.includes("\0")) throw new EngineError("internal", `tar entry ${quoted(entry.path)}: NUL in its name`);
  const block = Buffer.alloc(blockSize);
  const octal = (value: number, start: number, length: number): void => {
    block.write(value.toString(8).padStart(length - 1, "0"), start, "latin1");
  };
  block.write(entry.path.slice(0, 100), 0, "latin1");
  octal(entry.mode & 0o7777, 100, 8);
  octal(within(entry.uid, largestOctal7), 108, 8);
  octal(within(entry.gid, largestOctal7), 116, 8);
  octal(within(size, largestOctal11), 124, 12);
  octal(within(entry.mtime, largestOctal11), 136, 12);
  block.write("        ", 148, "latin1");
  block.write(flag, 156, "latin1");
  block.write((entry.link ?? "").slice(0, 100), 157, "latin1");
  block.write("ustar\0" + "00", 257, "latin1");
  octal(entry.major ?? 0, 329, 8);
  octal(entry.minor ?? 0, 337, 8);
  let sum = 0;
  for (const byte of block) sum += byte;
  block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return block;
}

/** What a field cannot hold stands in a PAX record; the field is 0 then. */
const within = (value: number | undefined, limit: number): number =>
  value === undefined || value < 0 || value > limit ? 0 : value;
