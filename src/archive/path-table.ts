/**
 * What a layer made, by real path: flags and the number of a payload. A tar may have millions of entries, so a path is
 * kept as a 64-bit fingerprint under a random seed in typed arrays (13 bytes a slot): nobody can aim for a collision,
 * and by chance ten million paths collide once in some hundred thousand layers.
 */
import { randomFillSync } from "node:crypto";
import type { ByteString } from "./bytes.ts";

/** Flags of a path. */
export const made = {
  /** An entry of this layer stands there. */
  entry: 1,
  /** The entry is a directory with attributes of its own. */
  directory: 2,
  /** Something below was made. */
  above: 4,
  /** A directory that was new or emptied of everything older: nothing of the layers below is in it. */
  fresh: 8,
  /** Its bytes count for the layer's size. */
  counted: 16,
  /** A payload in the recipe refers to it. */
  payload: 32,
} as const;

const used = 128;

export class PathTable {
  readonly #seed = randomFillSync(new Uint32Array(2));
  #low = new Uint32Array(1024);
  #high = new Uint32Array(1024);
  #payload = new Uint32Array(1024);
  #flags = new Uint8Array(1024);
  #count = 0;
  #hashLow = 0;
  #hashHigh = 0;

  /** Flags of a path; 0 when this layer has nothing to do with it. */
  get(path: ByteString): number {
    return (this.#flags[this.#slot(path)] ?? 0) & ~used;
  }

  /** The payload of a path that has `made.payload`. */
  payload(path: ByteString): number {
    return this.#payload[this.#slot(path)] ?? 0;
  }

  /** Adds flags. */
  add(path: ByteString, flags: number, payload = 0): void {
    const slot = this.#claim(path);
    this.#flags[slot] = (this.#flags[slot] ?? 0) | flags;
    if ((flags & made.payload) !== 0) this.#payload[slot] = payload;
  }

  /** Adds `made.above` to every directory above a path. */
  addAbove(path: ByteString): void {
    for (let slash = path.lastIndexOf("/"); slash > 0; slash = path.lastIndexOf("/", slash - 1)) {
      const slot = this.#claim(path.slice(0, slash));
      const flags = this.#flags[slot] ?? 0;
      if ((flags & made.above) !== 0) return;
      this.#flags[slot] = flags | made.above;
    }
  }

  /** Forgets a path. */
  clear(path: ByteString): void {
    const slot = this.#slot(path);
    if (this.#flags[slot] !== 0) this.#flags[slot] = used;
  }

  #claim(path: ByteString): number {
    if (this.#count * 5 > this.#flags.length * 3) this.#grow();
    const slot = this.#slot(path);
    if (this.#flags[slot] === 0) {
      this.#flags[slot] = used;
      this.#low[slot] = this.#hashLow;
      this.#high[slot] = this.#hashHigh;
      this.#count++;
    }
    return slot;
  }

  /** Where a path stands, or the free slot where it would. */
  #slot(path: ByteString): number {
    this.#hash(path);
    return this.#probe(this.#hashLow, this.#hashHigh);
  }

  #probe(low: number, high: number): number {
    const mask = this.#flags.length - 1;
    let slot = (low ^ high) & mask;
    while (this.#flags[slot] !== 0 && (this.#low[slot] !== low || this.#high[slot] !== high)) slot = (slot + 1) & mask;
    return slot;
  }

  #grow(): void {
    const [low, high, payload, flags] = [this.#low, this.#high, this.#payload, this.#flags];
    const size = flags.length * 2;
    this.#low = new Uint32Array(size);
    this.#high = new Uint32Array(size);
    this.#payload = new Uint32Array(size);
    this.#flags = new Uint8Array(size);
    for (let old = 0; old < flags.length; old++) {
      if (flags[old] === 0) continue;
      const slot = this.#probe(low[old] ?? 0, high[old] ?? 0);
      this.#low[slot] = low[old] ?? 0;
      this.#high[slot] = high[old] ?? 0;
      this.#payload[slot] = payload[old] ?? 0;
      this.#flags[slot] = flags[old] ?? 0;
    }
  }

  /** Two lanes of multiply and xor, crossed at the end. */
  #hash(path: ByteString): void {
    let a = this.#seed[0] ?? 0;
    let b = this.#seed[1] ?? 0;
    for (let index = 0; index < path.length; index++) {
      const byte = path.charCodeAt(index);
      a = Math.imul(a ^ byte, 0x9e3779b1);
      b = Math.imul(b ^ byte, 0x5f356495);
      a ^= a >>> 15;
      b ^= b >>> 13;
    }
    a = Math.imul(a ^ (a >>> 16), 0x85ebca6b) ^ Math.imul(b ^ (b >>> 13), 0xc2b2ae35);
    b = Math.imul(b ^ (b >>> 16), 0x85ebca6b) ^ Math.imul(a ^ (a >>> 13), 0xc2b2ae35);
    this.#hashLow = a >>> 0;
    this.#hashHigh = b >>> 0;
  }
}
