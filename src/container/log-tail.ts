/**
 * Where the last N lines of a log begin, found by reading backwards. A line is what the container wrote up to a newline, so
 * that parts (`P`) belong to the end (`F`) that follows them.
 */
import type { FileHandle } from "node:fs/promises";
import { parseLogEntry } from "./log-line.ts";

const blockSize = 64 * 1024;
const longestEntry = 1024 * 1024;
const newline = 0x0a;

/** Byte offset in the file; the file's end for no lines. */
export async function tailOffset(file: FileHandle, lines: number): Promise<number> {
  const { size } = await file.stat();
  if (lines <= 0) return size;
  const counter = new Counter(lines);
  let rest = Buffer.alloc(0);
  for (let start = size; start > 0; ) {
    const length = Math.min(blockSize, start);
    start -= length;
    const block = await readAt(file, start, length);
    const data = Buffer.concat([block, rest]);
    // The bytes before the first newline belong to an entry that begins in an earlier block.
    const first = start === 0 ? 0 : data.indexOf(newline) + 1;
    const found = counter.scan(data, first);
    if (found !== undefined) return start + found;
    rest = first > longestEntry ? Buffer.alloc(0) : data.subarray(0, first);
  }
  return 0;
}

async function readAt(file: FileHandle, position: number, length: number): Promise<Buffer> {
  const { buffer, bytesRead } = await file.read(Buffer.allocUnsafe(length), 0, length, position);
  return buffer.subarray(0, bytesRead);
}

/** Counts line ends from the last backwards. */
class Counter {
  readonly #wanted: number;
  #seen = 0;
  #atEnd = true;

  constructor(wanted: number) {
    this.#wanted = wanted;
  }

  /** Looks at the entries of `data` from `first` on, last to first. Returns where the wanted lines begin. */
  scan(data: Buffer, first: number): number | undefined {
    let end = data.length;
    while (end > first) {
      const start = end < 2 ? 0 : data.lastIndexOf(newline, end - 2) + 1;
      const begin = Math.max(start, first);
      const entry = parseLogEntry(data.subarray(begin, data[end - 1] === newline ? end - 1 : end));
      if (entry !== undefined && (entry.ends || this.#atEnd)) {
        if (this.#seen === this.#wanted) return end;
        this.#seen++;
      }
      this.#atEnd = false;
      end = begin;
    }
    return undefined;
  }
}
