/**
 * Pulls bytes from an async iterable in the portions that a parser wants, copying only where a portion spans chunks.
 * Hot paths ask `has` first and so pay no promise for bytes that are here already. `onChunk` sees every byte once, in
 * order, before anybody else does: that is where a digest is made.
 */

const nothing = Buffer.alloc(0);

export class ByteReader {
  /** How many bytes were handed out. */
  position = 0;
  readonly #iterator: AsyncIterator<Uint8Array>;
  readonly #onChunk: ((chunk: Uint8Array) => void) | undefined;
  #buffer: Buffer = nothing;
  #at = 0;
  #ended = false;

  constructor(input: AsyncIterable<Uint8Array>, onChunk?: (chunk: Uint8Array) => void) {
    this.#iterator = input[Symbol.asyncIterator]();
    this.#onChunk = onChunk;
  }

  /** True when `count` bytes can be taken without waiting. */
  has(count: number): boolean {
    return this.#buffer.length - this.#at >= count;
  }

  /** Waits until `count` bytes are here or the input ends; returns how many are here, at most `count`. */
  async fill(count: number): Promise<number> {
    let here = this.#buffer.length - this.#at;
    if (here >= count) return count;
    const parts: Uint8Array[] = here > 0 ? [this.#buffer.subarray(this.#at)] : [];
    while (here < count && !this.#ended) {
      const chunk = await this.#pull();
      if (chunk === undefined) break;
      parts.push(chunk);
      here += chunk.length;
    }
    const only = parts.length === 1 ? parts[0] : undefined;
    this.#buffer = only === undefined ? Buffer.concat(parts, here) : asBuffer(only);
    this.#at = 0;
    return Math.min(here, count);
  }

  /** Takes `count` bytes that are here; the view is good until the next `fill` by anyone who keeps no copy. */
  take(count: number): Buffer {
    const taken = this.#buffer.subarray(this.#at, this.#at + count);
    this.#at += taken.length;
    this.position += taken.length;
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

  async #pull(): Promise<Uint8Array | undefined> {
    const next = await this.#iterator.next();
    if (next.done === true) {
      this.#ended = true;
      return undefined;
    }
    this.#onChunk?.(next.value);
    return next.value;
  }
}

const asBuffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
