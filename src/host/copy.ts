/**
 * The bytes of one file into another, as cheaply as the filesystem can: sharing the extents (reflink), copying inside
 * the kernel, or reading and writing. Synchronous: for workers, except `cloneFile`, which is short.
 */
import { fstatSync, readSync, writeSync } from "node:fs";
import { systemCode } from "../base/errors.ts";
import { ioctl } from "./ioctl.ts";
import { check, lastErrno, native, nativeSyscall, syscallNumber, systemError } from "./libc.ts";

const FICLONE = 0x40049409;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const ENXIO = 6;

const copyFileRange = nativeSyscall(
  syscallNumber(326, 285),
  "int sourceFd, void *sourceOffset, int targetFd, void *targetOffset, size_t length, uint32_t flags",
);
const lseek = native("int64_t lseek(int, int64_t, int)");
const ftruncate = native("int ftruncate(int, int64_t)");

/** What a filesystem, or a pair of them, answers when it cannot do it. */
const cannot = new Set(["ENOTSUP", "EXDEV", "EINVAL", "ENOTTY", "ENOSYS", "EBADF", "ETXTBSY", "EPERM"]);
const largestStep = 64 * 1024 * 1024;

/** Lets `targetFd` share all data of `sourceFd` (FICLONE); false where the filesystem cannot. */
export function cloneFile(sourceFd: number, targetFd: number): boolean {
  try {
    ioctl(targetFd, FICLONE, sourceFd);
    return true;
  } catch (error) {
    if (cannot.has(systemCode(error) ?? "")) return false;
    throw error;
  }
}

/**
 * Copies the first `size` bytes of `sourceFd` to the start of `targetFd`, which ends up `size` bytes long; holes stay
 * holes. A source that is shorter is EIO: somebody changed it.
 */
export function copyFileData(sourceFd: number, targetFd: number, size: number): void {
  for (const _ of copyFileSteps(sourceFd, targetFd, size));
}

/** As {@link copyFileData}, in steps that a caller may rest between; each gives the bytes that it passed, holes among them. */
export function* copyFileSteps(sourceFd: number, targetFd: number, size: number): Generator<number, void> {
  if (size > 0 && fstatSync(sourceFd).size === size && cloneFile(sourceFd, targetFd)) {
    yield size;
    return;
  }
  check(ftruncate(targetFd, size), "ftruncate");
  for (let at = 0; at < size; ) {
    const start = seek(sourceFd, at, SEEK_DATA, size);
    const end = Math.min(seek(sourceFd, start, SEEK_HOLE, size), start + largestStep, size);
    copyExtent(sourceFd, targetFd, { start, end });
    yield Math.max(end, start) - at;
    at = Math.max(end, start);
  }
  if (fstatSync(sourceFd).size < size) throw systemError("copy", undefined, 5);
}

/** Where the first `size` bytes of a file have data, in order; what is between and behind reads as zeros. */
export function* dataExtents(fd: number, size: number): Generator<Extent, void> {
  for (let at = 0; at < size; ) {
    const start = seek(fd, at, SEEK_DATA, size);
    if (start >= size) return;
    const end = Math.min(seek(fd, start, SEEK_HOLE, size), size);
    yield { start, end };
    at = end;
  }
}

/** Where data or a hole begins; a filesystem without holes has one extent. */
function seek(fd: number, from: number, whence: number, size: number): number {
  if (from >= size) return size;
  const found = lseek(fd, from, whence);
  if (found >= 0) return Math.min(found, size);
  const errno = lastErrno();
  if (errno === ENXIO) return size;
  if (errno === 22) return whence === SEEK_DATA ? from : size;
  throw systemError("lseek", undefined, errno);
}

export type Extent = { readonly start: number; readonly end: number };

function copyExtent(sourceFd: number, targetFd: number, { start, end }: Extent): void {
  const from = new BigInt64Array([BigInt(start)]);
  const to = new BigInt64Array([BigInt(start)]);
  let at = start;
  while (at < end) {
    const length = copyFileRange(sourceFd, from, targetFd, to, Math.min(end - at, largestStep), 0);
    if (length < 0) {
      const error = systemError("copy_file_range");
      if (!cannot.has(error.code)) throw error;
    }
    // Some filesystems answer 0 for files that do have data (proc, older FUSE).
    if (length <= 0) {
      copyByHand(sourceFd, targetFd, { start: at, end });
      return;
    }
    at += length;
  }
}

/** Reading and writing, where the kernel cannot copy. */
export function copyByHand(sourceFd: number, targetFd: number, { start, end }: Extent): void {
  const buffer = Buffer.allocUnsafe(Math.min(end - start, 1024 * 1024));
  for (let at = start; at < end; ) {
    const length = readSync(sourceFd, buffer, 0, Math.min(buffer.length, end - at), at);
    if (length === 0) throw systemError("read", undefined, 5);
    for (let written = 0; written < length; )
      written += writeSync(targetFd, buffer, written, length - written, at + written);
    at += length;
  }
}
