/** For this folder's tests: scratch directories, hand-made tars, and a description of a tree that two trees are compared by. */
import { createHash } from "node:crypto";
import { lstatSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AT_FDCWD, getXattr, listXattrs } from "../host/sys.ts";

/** A new directory that goes with its scope. */
export function scratch(): Disposable & { readonly path: string; sub(name: string): string } {
  const path = mkdtempSync(join(tmpdir(), "strata-archive-"));
  return {
    path,
    sub: (name) => join(path, name),
    [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }),
  };
}

export type RawEntry = {
  readonly path?: string;
  readonly type?: string;
  readonly link?: string;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly mtime?: number;
  readonly major?: number;
  readonly minor?: number;
  readonly content?: string | Buffer;
  /** Overrides the size field. */
  readonly size?: string;
  readonly prefix?: string;
  readonly magic?: string;
  readonly pax?: Readonly<Record<string, string>>;
};

const octal = (value: number, length: number): string => value.toString(8).padStart(length - 1, "0");

/** A header block by hand; strings are latin1. */
export function rawHeader(entry: RawEntry): Buffer {
  const block = Buffer.alloc(512);
  const put = (text: string, at: number): void => void block.write(text, at, "latin1");
  put((entry.path ?? "").slice(0, 100), 0);
  put(octal(entry.mode ?? 0o644, 8), 100);
  put(octal(entry.uid ?? 0, 8), 108);
  put(octal(entry.gid ?? 0, 8), 116);
  put(entry.size ?? octal(Buffer.byteLength(entry.content ?? "", "latin1"), 12), 124);
  put(octal(entry.mtime ?? 1_600_000_000, 12), 136);
  put("        ", 148);
  put(entry.type ?? "0", 156);
  put((entry.link ?? "").slice(0, 100), 157);
  put(entry.magic ?? "ustar\x0000", 257);
  put(octal(entry.major ?? 0, 8), 329);
  put(octal(entry.minor ?? 0, 8), 337);
  put(entry.prefix ?? "", 345);
  return withChecksum(block);
}

export function withChecksum(block: Buffer): Buffer {
  block.write("        ", 148, "latin1");
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${octal(sum, 7)}\0 `, 148, "latin1");
  return block;
}

/** A record whose length counts itself, by trying. */
export function paxRecord(key: string, value: string): string {
  for (let length = 1; ; length++) {
    const record = `${length} ${key}=${value}\n`;
    if (record.length === length) return record;
  }
}

export function rawEntry(entry: RawEntry): Buffer {
  const parts: Buffer[] = [];
  if (entry.pax !== undefined) {
    const content = Object.entries(entry.pax).map(([key, value]) => paxRecord(key, value));
    parts.push(rawEntry({ path: "PaxHeaders/x", type: "x", content: content.join("") }));
  }
  const data = typeof entry.content === "object" ? entry.content : Buffer.from(entry.content ?? "", "latin1");
  parts.push(rawHeader(entry), data, Buffer.alloc((512 - (data.length % 512)) % 512));
  return Buffer.concat(parts);
}

export function rawTar(entries: readonly RawEntry[], end: Buffer = Buffer.alloc(1024)): Buffer {
  return Buffer.concat([...entries.map(rawEntry), end]);
}

/** Bytes as a stream, in pieces of `size`, all in the same memory, as a pool gives its input. */
export async function* stream(bytes: Uint8Array, size = 65536): AsyncGenerator<Uint8Array> {
  const memory = Buffer.alloc(size);
  for (let at = 0; at < bytes.length; at += size) {
    memory.fill("?");
    memory.set(bytes.subarray(at, at + size));
    yield memory.subarray(0, Math.min(size, bytes.length - at));
  }
  memory.fill("?");
}

export async function collect(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of source) parts.push(Buffer.from(part));
  return Buffer.concat(parts);
}

/** Collects what a writing function writes. */
export async function written(run: (write: (chunk: Uint8Array) => Promise<void>) => Promise<void>): Promise<Buffer> {
  const parts: Buffer[] = [];
  await run(async (chunk) => void parts.push(Buffer.from(chunk)));
  return Buffer.concat(parts);
}

export type TreeDescription = Readonly<Record<string, string>>;

export type DescribeOptions = {
  /** Seconds only, as a tar of ours keeps them. */
  readonly seconds?: boolean;
  /** Without times of directories, which a later change in them moves. */
  readonly directoryTimes?: boolean;
};

/** Path -> one line that says everything about it, read through Node alone (but for the attributes). */
export function describeTree(root: string, options: DescribeOptions = {}): TreeDescription {
  const found: Record<string, string> = {};
  const inodes = new Map<bigint, string>();
  const visit = (path: Buffer, name: string): void => {
    const stat = lstatSync(path, { bigint: true });
    const first = inodes.get(stat.ino);
    if (first === undefined) inodes.set(stat.ino, name);
    const directory = stat.isDirectory();
    const timed = !directory || options.directoryTimes !== false;
    const time = options.seconds === true ? stat.mtimeNs / 1_000_000_000n : stat.mtimeNs;
    found[name] = [
      stat.mode.toString(8),
      `${stat.uid}:${stat.gid}`,
      timed ? `mtime=${time}` : "",
      directory ? "" : `size=${stat.size}`,
      stat.isFile() ? `sha=${createHash("sha256").update(readFileSync(path)).digest("hex").slice(0, 12)}` : "",
      stat.isSymbolicLink() ? `-> ${readlinkSync(path, { encoding: "buffer" }).toString("latin1")}` : "",
      stat.isCharacterDevice() || stat.isBlockDevice() ? `rdev=${stat.rdev}` : "",
      first !== undefined && !directory ? `= ${first}` : "",
      ...xattrsOf(path),
    ]
      .filter((part) => part !== "")
      .join(" ");
    if (!directory) return;
    const names = readdirSync(path, { encoding: "buffer" }).sort(Buffer.compare);
    for (const child of names)
      visit(Buffer.concat([path, Buffer.from("/"), child]), `${name}/${child.toString("latin1")}`);
  };
  visit(Buffer.from(root), "");
  return found;
}

function xattrsOf(path: Buffer): string[] {
  return listXattrs(AT_FDCWD, path)
    .sort()
    .map((name) => `${name}=${getXattr(AT_FDCWD, path, name)?.toString("hex")}`);
}
