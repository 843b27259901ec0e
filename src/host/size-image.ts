/**
 * Size limits by a filesystem of that size: what a container writes goes into an ext4 filesystem in a sparse file, for
 * hosts whose own filesystem has no project quotas. The file takes what is in use (blocks of deleted files are given
 * back), the filesystem keeps a small journal, and what it needs for itself comes on top of the size that was asked for.
 */
import { open } from "node:fs/promises";
import { EngineError, systemCode } from "../base/errors.ts";
import type { MountStep } from "../base/mount.ts";
import { humanSize } from "../base/size.ts";
import { syncFilesystem } from "./durable.ts";
import { openImage } from "./mount-image.ts";
import { runProgram } from "./program.ts";

/** Where mkfs.ext4 is looked for. */
export const programPath = `${process.env.PATH ?? ""}:/usr/sbin:/sbin`;

/** mkfs.ext4 makes a smaller filesystem without its journal. */
export const smallestImage = 4 << 20;

const makeDeadline = 120_000;
const mebibyte = 1 << 20;
const block = 4096;
const inodeSize = 256;
const descriptorSize = 64;
const blocksPerGroup = 8 * block;
/** The filesystem's number of inodes is 32 bits wide, and a table of more than this is of no use. */
const mostInodes = 2 ** 26;

type ImageStep = Extract<MountStep, { kind: "image" }>;

/** How such a file is mounted. */
export const imageStep = (file: string): ImageStep => ({
  kind: "image",
  type: "ext4",
  file,
  // Nothing is written ahead of its use, and what is deleted leaves the file: it stays thin.
  options: ["discard", "noinit_itable"],
});

export type ImageOptions = {
  /** Bytes that can be written. */
  readonly size: number;
  /** Puts into the empty root, an open directory, what the layer begins with. */
  readonly fill: (root: number) => void | Promise<void>;
};

/** Makes `file`, durable in itself; its directory is not synced. On failure a part of it may stay. */
export async function makeImage(file: string, { size, fill }: ImageOptions): Promise<void> {
  const handle = await open(file, "wx", 0o600);
  try {
    await grow(handle, size);
    await makeFilesystem(file, size);
    {
      using root = openImage(imageStep(file));
      await fill(root.fd);
      await syncFilesystem(`/proc/self/fd/${root.fd}`);
    }
    await handle.sync();
  } finally {
    await handle.close();
  }
}

const tooLarge = new Set(["EFBIG", "EINVAL", "ERR_OUT_OF_RANGE"]);

async function grow(handle: Awaited<ReturnType<typeof open>>, size: number): Promise<void> {
  try {
    await handle.truncate(imageBytes(size));
  } catch (error) {
    if (!tooLarge.has(systemCode(error) ?? "")) throw error;
    const words = `a size of ${humanSize(size)} is more than the filesystem of the data root can hold in one file`;
    throw new EngineError("invalid_argument", words, { cause: error });
  }
}

const journalMebibytes = (size: number): number => (size < 256 * mebibyte ? 4 : 16);
const inodesFor = (size: number): number => Math.min(Math.ceil(size / block), mostInodes);

/** `size` and what the filesystem keeps for itself: journal, inodes, bitmaps, copies of the superblock. */
export function imageBytes(size: number): number {
  const fixed = journalMebibytes(size) * mebibyte + inodesFor(size) * inodeSize;
  const root = 4 * block;
  let bytes = size;
  // Groups bring records, records may bring a group.
  for (let round = 0; round < 3; round++) {
    const groups = Math.ceil(bytes / block / blocksPerGroup);
    const descriptors = Math.ceil((groups * descriptorSize) / block);
    bytes = size + fixed + root + (groups * 2 + copies(groups) * (1 + descriptors)) * block;
  }
  return Math.ceil(bytes / block) * block;
}

/** Groups that hold a copy of the superblock: 0, 1 and the powers of 3, 5 and 7. */
function copies(groups: number): number {
  let count = Math.min(groups, 2);
  for (const base of [3, 5, 7]) for (let group = base; group < groups; group *= base) count++;
  return count;
}

/** Named one by one, so that a limit means the same whatever the host's mke2fs.conf says. */
const features =
  "none,has_journal,ext_attr,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum";

/** The file is sparse, so what mkfs would fill with zeroes is left as it is. */
async function makeFilesystem(file: string, size: number): Promise<void> {
  const shape = ["-b", `${block}`, "-I", `${inodeSize}`, "-N", `${inodesFor(size)}`, "-m", "0"];
  const parts = ["-O", features, "-J", `size=${journalMebibytes(size)}`];
  const lazy = ["-E", "lazy_journal_init=1,lazy_itable_init=1"];
  const { code, stderr } = await runProgram("mkfs.ext4", ["-q", "-F", ...shape, ...parts, ...lazy, file], {
    deadline: makeDeadline,
    env: { PATH: programPath },
  });
  if (code !== 0) throw new EngineError("internal", `mkfs.ext4 failed on ${file}: ${stderr.trim()}`);
}
