/**
 * Files that one thread has created and another fills: their descriptors, in shared memory, in the order of the entries
 * that they belong to. The maker offers each file; what is not taken in time it fills by itself, so that neither waits
 * and few files are open. A descriptor is taken by the entry that it was made for, or by nobody.
 *
 * The taker must see an entry only after it was offered. Whoever made the memory closes what was left when both are done.
 */
import { crc32 } from "node:zlib";
import { EngineError } from "../base/errors.ts";
import { closeFd } from "../host/sys.ts";
import { type ByteString, quoted } from "./bytes.ts";

const slots = 512;
const empty = 0;
const reserved = -1;

/** Memory for one copy. */
export const openFilesMemory = (): SharedArrayBuffer => new SharedArrayBuffer(3 * slots * 4);

/** One thread's end. */
export class OpenFiles {
  /** A descriptor and one, or a state. */
  readonly #files: Int32Array;
  /** The numbers of the entries that they were made for, and checksums of their paths. */
  readonly #entries: Int32Array;
  readonly #paths: Int32Array;
  #entry = 0;

  constructor(memory: SharedArrayBuffer) {
    this.#files = new Int32Array(memory, 0, slots);
    this.#entries = new Int32Array(memory, slots * 4, slots);
    this.#paths = new Int32Array(memory, 2 * slots * 4, slots);
  }

  /** Passes over an entry that is filled by its maker. */
  skip(): void {
    this.#entry++;
  }

  /** Offers the next entry's file. False: it stays the caller's, because the other is far behind. */
  offer(path: ByteString, fd: number): boolean {
    const entry = this.#entry++;
    const slot = entry % slots;
    if (Atomics.compareExchange(this.#files, slot, empty, reserved) !== empty) return false;
    this.#entries[slot] = entry | 0;
    this.#paths[slot] = crc32(path) | 0;
    Atomics.store(this.#files, slot, fd + 1);
    return true;
  }

  /** The next entry's file, which the caller fills and closes; undefined when its maker fills it. */
  take(path: ByteString): number | undefined {
    const entry = this.#entry++;
    const slot = entry % slots;
    const found = Atomics.load(this.#files, slot);
    if (found <= empty || this.#entries[slot] !== (entry | 0)) return undefined;
    if (this.#paths[slot] !== (crc32(path) | 0))
      throw new EngineError("internal", `${quoted(path)}: another file was made for it`);
    Atomics.store(this.#files, slot, empty);
    return found - 1;
  }

  /** Closes what nobody took; returns how many there were. For after both ends. */
  closeLeft(): number {
    let left = 0;
    for (let slot = 0; slot < slots; slot++) {
      const found = Atomics.exchange(this.#files, slot, empty);
      if (found <= empty) continue;
      closeFd(found - 1);
      left++;
    }
    return left;
  }
}
