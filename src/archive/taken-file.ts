/**
 * A file that whoever writes a layer's tar has put into the tree (tree-copy.ts), on the side of the tar's reader: offered to be
 * filled here (open-files.ts), or filled there already; then its content is only looked at.
 */
import { closeFd } from "../host/sys.ts";
import type { ByteString } from "./bytes.ts";
import { type OpenedFile, setTime } from "./place-entry.ts";
import type { TarEntry } from "./read-tar.ts";
import { writeAll } from "./recipe-writer.ts";

export class TakenFile implements OpenedFile {
  readonly path: ByteString;
  readonly #entry: TarEntry;
  readonly #fd: number | undefined;

  /** Undefined: it has its content. */
  constructor(path: ByteString, entry: TarEntry, fd: number | undefined) {
    this.path = path;
    this.#entry = entry;
    this.#fd = fd;
  }

  write(piece: Uint8Array): void {
    if (this.#fd !== undefined) writeAll(this.#fd, piece);
  }

  finish(): void {
    if (this.#fd !== undefined) setTime(this.#fd, "", this.#entry);
  }

  [Symbol.dispose](): void {
    if (this.#fd !== undefined) closeFd(this.#fd);
  }
}
