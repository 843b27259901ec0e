/**
 * Writes a recipe (see recipe-format.ts) while a layer is unpacked. Synchronous; memory is one block, whatever the tar.
 * Contents that must be saved go to a nameless file beside the recipe first, because they are needed in another order.
 * Disposing before `finish` removes the file; what makes it durable is the sync of the layer that it belongs to.
 */
import { closeSync, openSync, readSync, rmSync, unlinkSync, writeSync } from "node:fs";
import { constants, zstdCompressSync } from "node:zlib";
import { EngineError } from "../base/errors.ts";
import { type ByteString, quoted } from "./bytes.ts";
import { blockHeader, kind, largestBlock, recipeEnd, recipeMagic, record } from "./recipe-format.ts";

type Saved = { readonly payload: number; readonly offset: number; readonly size: number };

const copySize = 64 * 1024;
const zstd = { params: { [constants.ZSTD_c_compressionLevel]: 3 } };

export class RecipeWriter implements Disposable {
  readonly #path: string;
  readonly #fd: number;
  readonly #block = Buffer.allocUnsafeSlow(largestBlock);
  #used = 0;
  #payloads = 0;
  #spool: number | undefined;
  #spooled = 0;
  readonly #saved: Saved[] = [];
  #written = 0;
  #finished = false;

  constructor(path: string) {
    this.#path = path;
    this.#fd = openSync(path, "w", 0o600);
    try {
      this.#write(recipeMagic);
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** Bytes that stand in the tar here. */
  literal(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; ) {
      if (this.#used + 16 > largestBlock) this.#flush(kind.main);
      const part = bytes.subarray(at, at + largestBlock - this.#used - 6);
      this.#block[this.#used++] = record.literal;
      this.#varint(part.length);
      this.#block.set(part, this.#used);
      this.#used += part.length;
      at += part.length;
    }
  }

  /** The content of the file at `path` stands in the tar here. Returns the payload's number. */
  payload(path: ByteString, size: number, crc: number): number {
    if (this.#used + path.length + 32 > largestBlock) this.#flush(kind.main);
    this.#block[this.#used++] = record.payload;
    this.#varint(path.length);
    this.#used += this.#block.write(path, this.#used, "latin1");
    this.#varint(size);
    this.#used = this.#block.writeUInt32LE(crc, this.#used);
    return this.#payloads++;
  }

  /** Keeps the content of a payload whose file is about to go; `fd` is that file. */
  save(payload: number, fd: number, path: ByteString): void {
    const spool = this.#spoolFile();
    const buffer = Buffer.allocUnsafe(copySize);
    const offset = this.#spooled;
    for (;;) {
      const length = readSync(fd, buffer, 0, copySize, null);
      if (length === 0) break;
      writeAll(spool, buffer.subarray(0, length));
      this.#spooled += length;
    }
    if (payload >= this.#payloads) throw new EngineError("internal", `${quoted(path)}: no such payload`);
    this.#saved.push({ payload, offset, size: this.#spooled - offset });
  }

  /** Ends the recipe. */
  finish(tarSize: number): void {
    this.#flush(kind.main);
    const savedAt = this.#written;
    this.#writeSaved();
    const end = Buffer.alloc(17);
    end[0] = kind.end;
    end.writeBigUInt64LE(BigInt(savedAt), 1);
    end.writeBigUInt64LE(BigInt(tarSize), 9);
    this.#write(Buffer.concat([end, recipeEnd]));
    this.#finished = true;
  }

  [Symbol.dispose](): void {
    if (this.#spool !== undefined) closeSync(this.#spool);
    closeSync(this.#fd);
    if (!this.#finished) rmSync(this.#path, { force: true });
  }

  #spoolFile(): number {
    if (this.#spool === undefined) {
      this.#spool = openSync(`${this.#path}.saved`, "w+", 0o600);
      unlinkSync(`${this.#path}.saved`);
    }
    return this.#spool;
  }

  #writeSaved(): void {
    const spool = this.#spool;
    if (spool === undefined) return;
    this.#saved.sort((a, b) => a.payload - b.payload);
    for (const { payload, offset, size } of this.#saved) {
      if (this.#used + 16 > largestBlock) this.#flush(kind.saved);
      this.#varint(payload);
      for (let done = 0; done < size; ) {
        if (this.#used === largestBlock) this.#flush(kind.saved);
        const wanted = Math.min(size - done, largestBlock - this.#used);
        const length = readSync(spool, this.#block, this.#used, wanted, offset + done);
        if (length === 0) throw new EngineError("internal", "the recipe's own saved contents ended early");
        this.#used += length;
        done += length;
      }
    }
    this.#flush(kind.saved);
  }

  #varint(value: number): void {
    let rest = value;
    for (; rest > 0x7f; rest = Math.floor(rest / 128)) this.#block[this.#used++] = (rest % 128) | 0x80;
    this.#block[this.#used++] = rest;
  }

  #flush(of: number): void {
    if (this.#used === 0) return;
    const frame = zstdCompressSync(this.#block.subarray(0, this.#used), zstd);
    const header = Buffer.alloc(blockHeader);
    header[0] = of;
    header.writeUInt32LE(this.#used, 1);
    header.writeUInt32LE(frame.length, 5);
    this.#write(header);
    this.#write(frame);
    this.#used = 0;
  }

  #write(bytes: Uint8Array): void {
    writeAll(this.#fd, bytes);
    this.#written += bytes.length;
  }
}

/** write(2) until everything is written. */
export function writeAll(fd: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at, bytes.length - at);
}
