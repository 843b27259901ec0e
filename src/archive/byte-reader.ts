/**
 * Pulls bytes from an async iterable in the portions that a parser wants, copying only where a portion spans chunks.
 * Hot paths ask `has` first and so pay no promise for bytes that are here already. `onChunk` sees every byte once, in
 * order, before anybody else does: that is where a digest is made. A source may use a chunk's memory again once it is
 * asked for the next one: nothing is kept of a chunk then.
 */

const nothing = Buffer.alloc(0);

export class ByteReader {
  /** How many bytes were handed out. */
  position = 0;
  readonly #iterator: AsyncIterator<Uint8Array>;
  readonly #onChunk: ((chunk: Uint8Array) => void) | undefined;
  /** What is read from: the chunk, or a portion that spans two. */
  #buffer: Buffer = nothing;
  #at = 0;
  /** What is left of the chunk when `#buffer` is such a portion. */
  #rest: Buffer = nothing;
  #ended = false;

  constructor(input: AsyncIterable<Uint8Array>, onChunk?: (chunk: Uint8Array) => void) {
    this.#iterator = input[Symbol.asyncIterator]();
    this.#onChunk = onChunk;
  }

  /** True when `count` bytes can be taken without waiting. */
  has(count: number): boolean {
    return this.#buffer.length - this.#at >= count;
  }

  /** Waits until `count` bytes (bounded by the caller) are here or the input ends; returns how many are, at most `count`. */
  async fill(count: number): Promise<number> {
    if (this.has(count)) return count;
    const portion = Buffer.allocUnsafe(count);
    let part = this.#buffer.subarray(this.#at);
    let rest = this.#rest;
    let here = 0;
    for (;;) {
      here += part.copy(portion, here);
      if (here === count) break;
      if (rest.length === 0) {
        const chunk = await this.#pull();
        if (chunk === undefined) break;
        if (here === 0 && chunk.length >= count) return this.#readFrom(chunk, nothing, count);
        rest = chunk;
      }
      part = rest.subarray(0, count - here);
      rest = rest.subarray(part.length);
    }
    return this.#readFrom(portion.subarray(0, here), rest, here);
  }

  #readFrom(buffer: Buffer, rest: Buffer, count: number): number {
    this.#buffer = buffer;
    this.#at = 0;
    this.#rest = rest;
    return count;
  }

  /** A byte that is here, so far ahead. */
  at(ahead: number): number | undefined {
    return this.#buffer[this.#at + ahead];
  }

  /** Takes `count` bytes that are here; the view is good until the next `fill`. */
  take(count: number): Buffer {
    const taken = this.#buffer.subarray(this.#at, this.#at + count);
    this.#at += taken.length;
    this.position += taken.length;
    if (this.#at === this.#buffer.length && this.#rest.length > 0) this.#readFrom(this.#rest, nothing, 0);
    return taken;
  }

  /** The next bytes, whatever is here, at most `limit`; undefined at the end. */
  async piece(limit: number): Promise<Buffer | undefined> {
    if (!this.has(1) && (await this.fill(1)) === 0) return undefined;
    return this.take(Math.min(limit, this.#buffer.length - this.#at));
  }

  /** Tells the source that nobody reads on. */
  async close(): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    await this.#iterator.return?.();
  }

  async #pull(): Promise<Buffer | undefined> {
    if (this.#ended) return undefined;
    const next = await this.#iterator.next();
    if (next.done === true) {
      this.#ended = true;
      return undefined;
    }
    this.#onChunk?.(next.value);
    return asBuffer(next.value);
  }
}

const asBuffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
