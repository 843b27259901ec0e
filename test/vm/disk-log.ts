/**
 * A disk that remembers the order of what was done to it: every write and every flush since it was opened, so that the
 * disk of a power cut at any moment can be made. Blocks are 4 KiB and never torn, as on a disk with such sectors.
 *
 * A *covered* write was answered before a flush was sent that was answered too: the disk promised it. Every other write
 * may be lost, alone or with others, whatever its order: a disk's cache promises nothing.
 */
export const blockSize = 4096;

/** Block number -> its bytes; what is missing is zero. The bytes are never changed in place. */
export type Blocks = ReadonlyMap<number, Uint8Array>;

/** A write, or a flush with the number of entries whose writes it covers. */
type Entry = { readonly block: number; readonly data: Uint8Array } | { readonly covers: number };

/** Which of the writes that no flush covers reached the disk. */
export type Survivors = (block: number) => boolean;

export class DiskLog {
  readonly #base: Blocks;
  readonly #now: Map<number, Uint8Array>;
  readonly #entries: Entry[] = [];

  constructor(base: Blocks = new Map()) {
    this.#base = base;
    this.#now = new Map(base);
  }

  /** How much happened until now: a moment that {@link cut} takes. */
  get length(): number {
    return this.#entries.length;
  }

  /** The bytes as the machine that wrote them sees them. */
  read(offset: number, length: number): Buffer {
    const bytes = Buffer.alloc(length);
    for (let at = 0; at < length; at += blockSize) {
      const block = this.#now.get((offset + at) / blockSize);
      if (block !== undefined) bytes.set(block, at);
    }
    return bytes;
  }

  /** `offset` and length are multiples of the block size. */
  write(offset: number, bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; at += blockSize) {
      const block = (offset + at) / blockSize;
      const data = Uint8Array.from(bytes.subarray(at, at + blockSize));
      this.#now.set(block, data);
      this.#entries.push({ block, data });
    }
  }

  /** `covers` is the length of the log when the last answer to a write had been given. */
  flush(covers: number): void {
    this.#entries.push({ covers });
  }

  /** The moments just before each flush: all that was acknowledged since the one before stands on that one alone. */
  flushes(): number[] {
    return this.#entries.flatMap((entry, index) => ("covers" in entry ? [index] : []));
  }

  writes(until = this.length): number {
    return this.#entries.slice(0, until).filter((entry) => "data" in entry).length;
  }

  /** The disk after a power cut at `moment`: what flushes covered by then, and what of the rest `survives`. */
  cut(moment: number, survives: Survivors): Blocks {
    const past = this.#entries.slice(0, moment);
    const covered = past.reduce((most, entry) => ("covers" in entry ? Math.max(most, entry.covers) : most), 0);
    const disk = new Map(this.#base);
    for (const [index, entry] of past.entries())
      if ("data" in entry && (index < covered || survives(entry.block))) disk.set(entry.block, entry.data);
    return disk;
  }
}
