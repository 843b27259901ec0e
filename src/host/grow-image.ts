/**
 * Makes a filesystem in a file larger while it is mounted, or not: the file grows, then the loop device above it, then the
 * filesystem. A crash in between leaves it as large as it was; growing it again goes on from there. In a worker.
 */
import { readFileSync, truncateSync } from "node:fs";
import { ioctl } from "./ioctl.ts";
import { attachLoop } from "./loop-device.ts";
import { openImage } from "./mount-image.ts";
import { imageBytes, imageStep } from "./size-image.ts";
import { AT_FDCWD, closeRead, O, openat2 } from "./sys.ts";

const LOOP_SET_CAPACITY = 0x4c07;
/** _IOW('f', 16, __u64): the number of blocks that it gets. */
const EXT4_IOC_RESIZE_FS = 0x40086610;
const CAP_SYS_RESOURCE = 1n << 24n;
const block = 4096;

/** ext4 lets nobody without CAP_SYS_RESOURCE do it. */
export const canGrowImages = (): boolean => {
  const held = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync("/proc/self/status", "latin1"))?.[1] ?? "0";
  return (BigInt(`0x${held}`) & CAP_SYS_RESOURCE) !== 0n;
};

/** Lets `size` bytes be written to the image `file`, which holds fewer. */
export function growImage(file: string, size: number): void {
  const bytes = imageBytes(size);
  truncateSync(file, bytes);
  using root = openImage(imageStep(file));
  const image = openat2(AT_FDCWD, file, { flags: O.RDWR | O.NOFOLLOW });
  try {
    // That of the filesystem that is open now.
    using device = attachLoop(image);
    ioctl(device.fd, LOOP_SET_CAPACITY, 0);
  } finally {
    closeRead(image);
  }
  const top = openat2(root.fd, ".", { flags: O.RDONLY | O.DIRECTORY });
  const blocks = Buffer.alloc(8);
  blocks.writeBigUInt64LE(BigInt(Math.floor(bytes / block)));
  try {
    ioctl(top, EXT4_IOC_RESIZE_FS, blocks);
  } finally {
    closeRead(top);
  }
}
