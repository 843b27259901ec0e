/**
 * One 512-byte tar header block, decoded: v7, ustar, star and GNU, as they differ in their magic, their prefix field
 * and their numbers (octal text, or base 256 with the top bit set). What the block says, not yet what the entry means:
 * extended headers may override it (read-tar.ts).
 */
import { EngineError } from "../base/errors.ts";
import type { ByteString } from "./bytes.ts";

export const blockSize = 512;

export type RawHeader = {
  readonly path: ByteString;
  readonly link: ByteString;
  /** The type flag, "\0" for v7 files. */
  readonly flag: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  /** Seconds since the epoch. */
  readonly mtime: number;
  readonly major: number;
  readonly minor: number;
};

/** True for a block of zeros, two of which end an archive. */
export function isZeroBlock(block: Buffer): boolean {
  if (block[0] !== 0) return false;
  for (let index = 0; index < blockSize; index++) if (block[index] !== 0) return false;
  return true;
}

/** Decodes a block at `offset` of the archive. Throws invalid_argument for what is no header. */
export function parseHeader(block: Buffer, offset: number): RawHeader {
  checkSum(block, offset);
  const field = (start: number, length: number): number => parseNumber(block, [start, length], offset);
  const format = formatOf(block);
  const name = text(block, 0, 100);
  const prefix = prefixOf(block, format);
  const devices = format === "v7" ? undefined : { major: field(329, 8), minor: field(337, 8) };
  return {
    path: prefix === "" ? name : `${prefix}/${name}`,
    link: text(block, 157, 100),
    flag: String.fromCharCode(block[156] ?? 0),
    mode: field(100, 8),
    uid: field(108, 8),
    gid: field(116, 8),
    size: field(124, 12),
    mtime: field(136, 12),
    major: devices?.major ?? 0,
    minor: devices?.minor ?? 0,
  };
}

type Format = "v7" | "ustar" | "star" | "gnu";

function formatOf(block: Buffer): Format {
  const magic = block.toString("latin1", 257, 265);
  if (magic === "ustar  \0") return "gnu";
  if (!magic.startsWith("ustar\0")) return "v7";
  return block.toString("latin1", 508, 512) === "tar\0" ? "star" : "ustar";
}

function prefixOf(block: Buffer, format: Format): ByteString {
  if (format === "ustar") return text(block, 345, 155);
  if (format === "star") return text(block, 345, 131);
  if (format !== "gnu") return "";
  // GNU has times here. Old Go programs wrote a GNU magic and yet a ustar prefix: what is no number is a prefix.
  if (isTime(block, 345) && isTime(block, 357)) return "";
  const prefix = text(block, 345, 155);
  return /^[\x01-\x7f]*$/.test(prefix) ? prefix : "";
}

const isTime = (block: Buffer, start: number): boolean =>
  block[start] === 0 || numberOf(block, start, 12) !== undefined;

/** Up to the first NUL. */
function text(block: Buffer, start: number, length: number): ByteString {
  let end = start;
  while (end < start + length && block[end] !== 0) end++;
  return block.toString("latin1", start, end);
}

function parseNumber(block: Buffer, [start, length]: readonly [number, number], offset: number): number {
  const value = numberOf(block, start, length);
  if (value === undefined)
    throw new EngineError("invalid_argument", `invalid tar: header at offset ${offset} has a broken number`);
  return value;
}

/** Octal text between blanks and NULs, or base 256; undefined when it is neither or too large to count with. */
function numberOf(block: Buffer, start: number, length: number): number | undefined {
  if (((block[start] ?? 0) & 0x80) !== 0) return base256(block, start, length);
  let at = start;
  let end = start + length;
  while (at < end && isBlank(block[at])) at++;
  while (end > at && isBlank(block[end - 1])) end--;
  let value = 0;
  for (; at < end && block[at] !== 0; at++) {
    const digit = (block[at] ?? 0) - 0x30;
    if (digit < 0 || digit > 7) return undefined;
    value = value * 8 + digit;
  }
  return value;
}

const isBlank = (byte: number | undefined): boolean => byte === 0x20 || byte === 0;

/** GNU's binary numbers: big-endian two's complement; the top bit only marks, the next one is the sign. */
function base256(block: Buffer, start: number, length: number): number | undefined {
  const negative = ((block[start] ?? 0) & 0x40) !== 0;
  let value = negative ? -1n : 0n;
  for (let at = start; at < start + length; at++) {
    const byte = block[at] ?? 0;
    const bits = at === start ? (negative ? byte | 0x80 : byte & 0x7f) : byte;
    value = (value << 8n) | BigInt(bits);
  }
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : undefined;
}

/** Throws invalid_argument for a wrong sum; some old programs summed signed bytes. */
function checkSum(block: Buffer, offset: number): void {
  const said = numberOf(block, 148, 8);
  if (said === headerSum(block)) return;
  let high = 0;
  for (let index = 0; index < blockSize; index++) if (index < 148 || index >= 156) high += (block[index] ?? 0) >> 7;
  if (said !== headerSum(block) - high * 256)
    throw new EngineError("invalid_argument", `invalid tar: the block at offset ${offset} is no header (checksum)`);
}

const evenBytes = 0x00ff00ff;

/** The sum of a header's bytes, with its own field counted as blanks. Four bytes are added at a time. */
export function headerSum(block: Buffer): number {
  const aligned = block.byteOffset % 4 === 0 ? block : Buffer.from(block);
  const words = new Uint32Array(aligned.buffer, aligned.byteOffset, blockSize / 4);
  let even = 0;
  let odd = 0;
  for (let index = 0; index < words.length; index++) {
    // The field of the sum is these two words.
    if (index === 37 || index === 38) continue;
    const word = words[index] ?? 0;
    even += word & evenBytes;
    odd += (word >>> 8) & evenBytes;
  }
  return (even & 0xffff) + (even >>> 16) + (odd & 0xffff) + (odd >>> 16) + 8 * 0x20;
}
