/**
 * A volume as a tar: every name begins with `./`, the root directory comes first, times are exact, files with holes are GNU
 * tar's sparse files. Its last member proves that it is whole:
 *
 *     .strata-volume.json    {"format", "volume", "entries", "bytes", "sha256", "skipped", "consistent"}
 *
 * `sha256` is that of every byte of the tar before this member's header. No file of the volume can be taken for it, because of
 * their `./`. For workers.
 */
import { createHash } from "node:crypto";
import * as v from "valibot";
import { type ByteString, bytesOf } from "../archive/bytes.ts";
import { findStat, isDirectory, isFile, openDirectory } from "../archive/root-tree.ts";
import { TarWriter } from "../archive/write-tar.ts";
import { isGone, plainXattrs, TreeWriter } from "../archive/write-tree.ts";
import { AT_FDCWD, closeRead, O, openat2, readDirectory } from "../host/sys.ts";

export const proofName = ".strata-volume.json";
export const proofFormat = "strata volume 1";

export const proofShape = v.object({
  format: v.literal(proofFormat),
  volume: v.string(),
  /** Members before this one. */
  entries: v.pipe(v.number(), v.safeInteger(), v.minValue(0)),
  /** Sum of the sizes of files. */
  bytes: v.pipe(v.number(), v.safeInteger(), v.minValue(0)),
  sha256: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/)),
  /** Sockets, which no tar holds. */
  skipped: v.pipe(v.number(), v.safeInteger(), v.minValue(0)),
  /** False when containers may have written meanwhile. */
  consistent: v.boolean(),
});
export type Proof = v.InferOutput<typeof proofShape>;

export type PackVolume = {
  /** Where the content is, a path of our own. */
  readonly path: string;
  readonly volume: string;
  readonly consistent: boolean;
};

/** Writes the whole tar. */
export async function packVolume(
  { path, volume, consistent }: PackVolume,
  write: (chunk: Uint8Array) => Promise<void>,
): Promise<void> {
  const hash = createHash("sha256");
  const tar = new TarWriter(async (chunk) => {
    hash.update(chunk);
    await write(chunk);
  });
  const counted = await packTree(tar, path);
  await tar.flush();
  const proof: Proof = { format: proofFormat, volume, ...counted, sha256: hash.copy().digest("hex"), consistent };
  const entry = { path: proofName, type: "file", mode: 0o644, mtime: Math.floor(Date.now() / 1000) } as const;
  await tar.add(entry, Buffer.from(`${JSON.stringify(proof)}\n`));
  await tar.finish();
}

type Counted = { entries: number; bytes: number; skipped: number };
type Walk = { readonly writer: TreeWriter; readonly counted: Counted; readonly seen: Set<string> };

async function packTree(tar: TarWriter, path: string): Promise<Counted> {
  const top = openat2(AT_FDCWD, path, { flags: O.RDONLY | O.DIRECTORY });
  const writer = new TreeWriter(tar, plainXattrs, { exactTimes: true, sparse: true });
  const walk: Walk = { writer, counted: { entries: 0, bytes: 0, skipped: 0 }, seen: new Set() };
  try {
    await packEntry(walk, { fd: top, name: "" }, ".");
  } finally {
    closeRead(top);
  }
  return walk.counted;
}

async function packEntry(walk: Walk, at: { fd: number; name: ByteString }, path: ByteString): Promise<void> {
  const stat = findStat(at.fd, at.name);
  if (stat === undefined) return;
  if (!(await walk.writer.add(at, stat, path))) {
    walk.counted.skipped++;
    return;
  }
  walk.counted.entries++;
  const inode = `${stat.dev}:${stat.ino}`;
  if (isFile(stat.mode) && !walk.seen.has(inode)) walk.counted.bytes += stat.size;
  if (isFile(stat.mode) && stat.nlink > 1) walk.seen.add(inode);
  if (isDirectory(stat.mode)) await packBelow(walk, at, path);
}

/** A directory that vanished meanwhile is simply empty. */
async function packBelow(walk: Walk, at: { fd: number; name: ByteString }, path: ByteString): Promise<void> {
  let fd: number;
  try {
    fd = openDirectory(at.fd, at.name === "" ? "." : at.name);
  } catch (error) {
    if (isGone(error)) return;
    throw error;
  }
  try {
    for (const name of readDirectory(fd).map(bytesOf).sort()) await packEntry(walk, { fd, name }, `${path}/${name}`);
  } finally {
    closeRead(fd);
  }
}
