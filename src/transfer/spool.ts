/**
 * Members of an archive that are needed later than they come, on disk meanwhile:
 *   <stagingRoot>/load-<pid>-<random>/<n>
 * Files are named by number, never by what the archive says. A spool is gone when it is disposed; what a killed
 * daemon left behind goes before the first new one is made.
 */
import { randomBytes } from "node:crypto";
import { mkdir, open, readdir, rm } from "node:fs/promises";
import { join } from "node:path";

const prefix = "load-";
const readSize = 256 * 1024;

/** Where spools live. */
export class SpoolRoot {
  readonly #path: string;
  #swept: Promise<void> | undefined;

  constructor(path: string) {
    this.#path = path;
  }

  async open(): Promise<Spool> {
    this.#swept ??= this.#sweep();
    try {
      await this.#swept;
    } catch (error) {
      // A disk that was full is tried again.
      this.#swept = undefined;
      throw error;
    }
    const path = join(this.#path, `${prefix}${process.pid}-${randomBytes(8).toString("hex")}`);
    await mkdir(path, { mode: 0o700 });
    return new Spool(path);
  }

  async #sweep(): Promise<void> {
    await mkdir(this.#path, { recursive: true, mode: 0o700 });
    for (const name of await readdir(this.#path))
      if (name.startsWith(prefix)) await rm(join(this.#path, name), { recursive: true, force: true });
  }
}

export class Spool implements AsyncDisposable {
  readonly #path: string;
  #next = 0;

  constructor(path: string) {
    this.#path = path;
  }

  /** Keeps a stream; returns its number. */
  async write(content: AsyncIterable<Uint8Array>): Promise<number> {
    const number = this.#next++;
    await using file = await open(this.#file(number), "wx", 0o600);
    for await (const chunk of content) await file.writeFile(chunk);
    return number;
  }

  async *read(number: number): AsyncIterable<Uint8Array> {
    await using file = await open(this.#file(number), "r");
    for (;;) {
      const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(readSize), 0, readSize);
      if (bytesRead === 0) return;
      yield buffer.subarray(0, bytesRead);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.#path, { recursive: true, force: true });
  }

  #file(number: number): string {
    return join(this.#path, String(number));
  }
}
