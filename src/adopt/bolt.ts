/**
 * Reads one bucket of a bbolt file (go.etcd.io/bbolt), the format of dockerd's `volumes/metadata.db`: pages of a B+tree,
 * little-endian, two meta pages of which the sound one with the higher transaction counts. Nothing is written. The caller
 * sees to it that nobody else does (bbolt's writers hold flock(2) on the file).
 *
 *   page    id u64 · flags u16 · count u16 · overflow u32 · elements
 *   meta    magic u32 · version u32 · page size u32 · flags u32 · root page u64 · sequence u64 · freelist u64 ·
 *           high water u64 · transaction u64 · FNV-1a of all before u64
 *   branch  position u32 · key size u32 · page u64
 *   leaf    flags u32 · position u32 · key size u32 · value size u32      positions count from the element itself
 *   bucket  (a leaf's value) root page u64 · sequence u64 · a page of its own when the root page is 0
 */
import { EngineError } from "../base/errors.ts";

const kind = { branch: 0x01, leaf: 0x02, meta: 0x04 } as const;
const magic = 0xed0cdaed;
const version = 2;
const pageHeader = 16;
const metaSize = 64;
const elementSize = 16;
const bucketFlag = 1;
const bucketHeader = 16;
/** bbolt takes the machine's page size; 64 KiB is the largest of any. */
const pageSizes = [4096, 8192, 16384, 32768, 65536] as const;

type Meta = { readonly pageSize: number; readonly root: bigint; readonly transaction: bigint };

/** Key -> value of the bucket `name`, keys in their order; undefined when there is no such bucket. Throws data_loss for a broken file. */
export function readBucket(file: Buffer, name: string): Map<string, Buffer> | undefined {
  try {
    const { pageSize, root } = latestMeta(file);
    const tree = new Tree(file, pageSize);
    for (const { flags, key, value } of tree.leaves(root)) {
      if (key.toString() !== name || (flags & bucketFlag) === 0) continue;
      const found = new Map<string, Buffer>();
      for (const entry of tree.bucket(value))
        if ((entry.flags & bucketFlag) === 0) found.set(entry.key.toString(), entry.value);
      return found;
    }
    return undefined;
  } catch (error) {
    // Every number in the file is somebody else's: one that leads outside ends in a RangeError.
    throw error instanceof RangeError ? broken("a page leads outside of the file", error) : error;
  }
}

function latestMeta(file: Buffer): Meta {
  const first = readMeta(file, 0);
  const second = (first === undefined ? pageSizes : [first.pageSize]).map((size) => readMeta(file, size));
  const sound = [first, ...second].filter((meta) => meta !== undefined);
  const [latest] = sound.sort((a, b) => (a.transaction < b.transaction ? 1 : -1));
  if (latest === undefined) throw broken("neither meta page is sound");
  return latest;
}

function readMeta(file: Buffer, at: number): Meta | undefined {
  if (at + pageHeader + metaSize > file.length || (file.readUInt16LE(at + 8) & kind.meta) === 0) return undefined;
  const meta = file.subarray(at + pageHeader, at + pageHeader + metaSize);
  if (meta.readUInt32LE(0) !== magic || meta.readUInt32LE(4) !== version) return undefined;
  if (fnv1a(meta.subarray(0, metaSize - 8)) !== meta.readBigUInt64LE(metaSize - 8)) return undefined;
  return { pageSize: meta.readUInt32LE(8), root: meta.readBigUInt64LE(16), transaction: meta.readBigUInt64LE(48) };
}

function fnv1a(bytes: Buffer): bigint {
  let hash = 0xcbf29ce484222325n;
  for (const byte of bytes) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  return hash;
}

type Leaf = { readonly flags: number; readonly key: Buffer; readonly value: Buffer };

class Tree {
  readonly #file: Buffer;
  readonly #pageSize: number;
  /** Pages of a tree are met once; a second time is a loop. */
  readonly #seen = new Set<bigint>();

  constructor(file: Buffer, pageSize: number) {
    this.#file = file;
    this.#pageSize = pageSize;
  }

  bucket(value: Buffer): Iterable<Leaf> {
    const root = value.readBigUInt64LE(0);
    return root === 0n ? this.#entries(value.subarray(bucketHeader)) : this.leaves(root);
  }

  leaves(id: bigint): Iterable<Leaf> {
    if (this.#seen.has(id)) throw broken("its pages go round in a circle");
    this.#seen.add(id);
    const at = Number(id) * this.#pageSize;
    if (!Number.isSafeInteger(at) || at >= this.#file.length) throw broken("a page leads outside of the file");
    return this.#entries(this.#file.subarray(at));
  }

  *#entries(page: Buffer): Generator<Leaf> {
    const flags = page.readUInt16LE(8);
    const count = page.readUInt16LE(10);
    for (let index = 0; index < count; index++) {
      const at = pageHeader + index * elementSize;
      if ((flags & kind.branch) !== 0) yield* this.leaves(page.readBigUInt64LE(at + 8));
      else if ((flags & kind.leaf) !== 0) yield leafAt(page, at);
      else throw broken("a page is neither branch nor leaf");
    }
  }
}

function leafAt(page: Buffer, at: number): Leaf {
  const start = at + page.readUInt32LE(at + 4);
  const middle = start + page.readUInt32LE(at + 8);
  const end = middle + page.readUInt32LE(at + 12);
  if (end > page.length) throw broken("an entry is cut off");
  return { flags: page.readUInt32LE(at), key: page.subarray(start, middle), value: page.subarray(middle, end) };
}

const broken = (why: string, cause?: unknown): EngineError =>
  new EngineError("data_loss", `it is no sound bbolt file: ${why}`, { cause });
