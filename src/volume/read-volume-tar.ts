/**
 * Reads a volume's tar (volume-tar.ts) into an empty directory. Everything in it is hostile: names are resolved inside the
 * directory. Whole means: its last member is the proof, and what came before it is what the proof says. For workers.
 */
import { createHash } from "node:crypto";
import { type ByteString, entryPath } from "../archive/bytes.ts";
import { decompress } from "../archive/decompress.ts";
import { applyAttributes, boundTime, type EntryContent, placeEntry } from "../archive/place-entry.ts";
import { type TarEntry, TarReader } from "../archive/read-tar.ts";
import { RootTree } from "../archive/root-tree.ts";
import { readSparse } from "../archive/sparse-file.ts";
import { blockSize } from "../archive/tar-header.ts";
import { EngineError } from "../base/errors.ts";
import { decodeShape } from "../base/shape.ts";
import { utimensat } from "../host/sys.ts";
import { type Proof, proofName, proofShape } from "./volume-tar.ts";

export type UnpackVolume = {
  /** An empty directory, a path of our own. */
  readonly path: string;
  /** The tar may be without a proof; one that it has counts all the same. */
  readonly plain: boolean;
  readonly signal: AbortSignal;
};

export type Unpacked = { readonly entries: number; readonly bytes: number };

const longestProof = 64 * 1024;

export async function unpackVolume(input: AsyncIterable<Uint8Array>, options: UnpackVolume): Promise<Unpacked> {
  using tree = new RootTree(options.path);
  const digest = new Digest();
  const tar = new TarReader(decompress(input), { sparse: true, onRaw: (bytes) => digest.raw(bytes) });
  const reader: EntryContent = { read: async () => digest.content(await tar.read()) };
  const times = new Map<ByteString, bigint>();
  const done = { entries: 0, bytes: 0 };
  let proved = false;
  try {
    for (let entry = await tar.next(); entry !== undefined; entry = await tar.next()) {
      options.signal.throwIfAborted();
      if (proved) throw broken("something follows its last member");
      if (entry.path === proofName && !options.plain) {
        const sha256 = digest.beforeHeader();
        checkProof(await proofOf(reader, entry), { ...done, sha256 });
        proved = true;
      } else done.bytes += await place(tree, entry, { reader, times });
      if (!proved) done.entries++;
    }
  } finally {
    await tar.close();
  }
  if (!proved && !options.plain) throw broken("its end is missing");
  for (const [path, time] of times) {
    const directory = tree.find(path);
    if (directory !== undefined) utimensat(directory.fd, "", time, time);
  }
  return done;
}

const broken = (why: string): EngineError =>
  new EngineError(
    "invalid_argument",
    `the archive is not a whole volume: ${why}; make it again with strata volume export, or take a tar of other origin with --plain`,
  );

type Placing = { readonly reader: EntryContent; readonly times: Map<ByteString, bigint> };

/** Bytes of the file that came to be. */
async function place(tree: RootTree, entry: TarEntry, { reader, times }: Placing): Promise<number> {
  const path = entryPath(entry.path);
  if (path === "") {
    if (entry.type !== "directory") throw broken("its root is no directory");
    applyAttributes(tree.fd, "", entry, {});
    times.set("", boundTime(entry.mtime));
    return 0;
  }
  const sparse = { writeContent: (fd: number, one: TarEntry) => readSparse(fd, one, reader) };
  const placed = await placeEntry(tree, entry, path, reader, entry.sparseSize === undefined ? {} : sparse);
  if (entry.type === "directory") times.set(placed.path, boundTime(entry.mtime));
  else times.delete(placed.path);
  return entry.type === "file" ? (entry.sparseSize ?? entry.size) : 0;
}

async function proofOf(reader: EntryContent, entry: TarEntry): Promise<Proof> {
  if (entry.type !== "file" || entry.size > longestProof) throw broken("its last member is no proof");
  const parts: Buffer[] = [];
  for (let piece = await reader.read(); piece !== undefined; piece = await reader.read())
    parts.push(Buffer.from(piece));
  const decoded = decodeShape(proofShape, parsed(Buffer.concat(parts).toString("utf8")));
  if (!decoded.ok) throw broken("its last member is no proof");
  return decoded.value;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function checkProof(proof: Proof, found: Unpacked & { readonly sha256: string }): void {
  if (proof.sha256 !== found.sha256)
    throw new EngineError("data_loss", "the archive is damaged: its content does not have the digest that it says");
  if (proof.entries !== found.entries)
    throw broken(`it has ${found.entries} members, and ${proof.entries} were written`);
}

/** SHA-256 of the archive so far. The latest block is held back: it may be the header of the member that has the digest. */
class Digest {
  readonly #hash = createHash("sha256");
  readonly #held = Buffer.alloc(blockSize);
  #isHeld = false;

  raw(bytes: Uint8Array): void {
    this.#release();
    if (bytes.length === blockSize) {
      this.#held.set(bytes);
      this.#isHeld = true;
    } else this.#hash.update(bytes);
  }

  content(piece: Buffer | undefined): Buffer | undefined {
    this.#release();
    if (piece !== undefined) this.#hash.update(piece);
    return piece;
  }

  beforeHeader(): string {
    return this.#hash.copy().digest("hex");
  }

  #release(): void {
    if (this.#isHeld) this.#hash.update(this.#held);
    this.#isHeld = false;
  }
}
