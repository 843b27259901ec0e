/**
 * The log format that conmon writes (Kubernetes' CRI format): `TIMESTAMP stdout|stderr P|F DATA`, one entry a line. `P` is a
 * part of a line, `F` its end, so that an entry's newline belongs to the data only after `F`. Bytes are bytes: nothing is decoded.
 */

export type LogEntry = {
  readonly stream: "stdout" | "stderr";
  /** Nanoseconds since the epoch. */
  readonly time: bigint;
  /** False for a part that a later entry of the stream continues. */
  readonly ends: boolean;
  readonly data: Uint8Array;
};

const newline = 0x0a;
const space = 0x20;
/** conmon's entries are at most 8 KiB and a header; anything longer is damage and is passed over. */
const longestEntry = 1024 * 1024;

const timestamp = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$/;

/** Nanoseconds since the epoch of an RFC 3339 time, or undefined. */
export function parseLogTime(text: string): bigint | undefined {
  const match = timestamp.exec(text);
  if (match === null) return undefined;
  const seconds = Date.parse(`${match[1]}${match[3]}`);
  if (Number.isNaN(seconds)) return undefined;
  return BigInt(seconds) * 1_000_000n + BigInt((match[2] ?? "").padEnd(9, "0"));
}

/** RFC 3339 in UTC with nine digits, as `docker logs -t` shows it. */
export function formatLogTime(time: bigint): string {
  const second = time / 1_000_000_000n;
  const nanoseconds = (time % 1_000_000_000n).toString().padStart(9, "0");
  return `${new Date(Number(second) * 1000).toISOString().slice(0, 19)}.${nanoseconds}Z`;
}

/** One line of the file, without its newline; undefined for what is no entry. */
export function parseLogEntry(line: Uint8Array): LogEntry | undefined {
  const first = line.indexOf(space);
  const second = line.indexOf(space, first + 1);
  const third = line.indexOf(space, second + 1);
  if (first < 0 || second < 0) return undefined;
  const text = (from: number, to: number): string => Buffer.from(line.subarray(from, to)).toString("latin1");
  const time = parseLogTime(text(0, first));
  const stream = text(first + 1, second);
  const tag = text(second + 1, third < 0 ? line.length : third);
  if (time === undefined || (stream !== "stdout" && stream !== "stderr")) return undefined;
  if (tag !== "F" && tag !== "P") return undefined;
  return { stream, time, ends: tag === "F", data: third < 0 ? new Uint8Array() : line.subarray(third + 1) };
}

/** Cuts chunks of a log file into entries; keeps the unfinished last line for the next chunk. */
export class LogSplitter {
  #rest: Buffer = Buffer.alloc(0);

  *push(chunk: Uint8Array): Generator<LogEntry> {
    const data = this.#rest.length === 0 ? Buffer.from(chunk) : Buffer.concat([this.#rest, chunk]);
    let start = 0;
    for (let end = data.indexOf(newline); end >= 0; end = data.indexOf(newline, start)) {
      const entry = parseLogEntry(data.subarray(start, end));
      start = end + 1;
      if (entry !== undefined) yield entry;
    }
    this.#rest = data.length - start > longestEntry ? Buffer.alloc(0) : data.subarray(start);
  }

  /** Forgets an unfinished line: the file was started anew. */
  reset(): void {
    this.#rest = Buffer.alloc(0);
  }
}
