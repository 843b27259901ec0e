/**
 * Reading btrfs's own trees (linux/btrfs.h, BTRFS_IOC_TREE_SEARCH_V2): items in the order of their keys, from the tree
 * of one subvolume. With `newerThan` whole branches of the tree are passed over that were not written since that
 * transaction, so the cost is that of what changed. Needs CAP_SYS_ADMIN. Synchronous: for workers.
 */
import { ioctl } from "../../host/ioctl.ts";

/** _IOWR(0x94, 17, 112 bytes) and _IOR(0x94, 60, 504 bytes). */
const request = { treeSearchV2: 0xc0709411, getSubvolumeInfo: 0x81f8943c };

/** Kinds of items (linux/btrfs_tree.h). */
export const itemType = { inode: 1, inodeRef: 12, inodeExtref: 13 } as const;

const keySize = 104;
const headerSize = 32;
const resultsAt = keySize + 8;
/** The largest block of a tree has 64 KiB, and an item is smaller. */
const bufferSize = 128 * 1024;
const maximum = 2n ** 64n - 1n;
const anyCount = 0xffff_ffff;

export type ItemKey = { readonly object: bigint; readonly type: number; readonly offset: bigint };
export type TreeItem = ItemKey & { readonly data: Buffer };

export type SearchRange = {
  readonly from: ItemKey;
  readonly to: ItemKey;
  /** Only items in blocks that a later transaction wrote. */
  readonly newerThan?: bigint;
};

/** Room for one search at a time. */
export const searchBuffer = (): Buffer => Buffer.alloc(resultsAt + bufferSize);

/** Items of the subvolume that `fd` is in, from the first key to the last; `data` is good until the next one. */
export function* searchTree(fd: number, range: SearchRange, buffer = searchBuffer()): Generator<TreeItem, void, void> {
  const { from, to, newerThan = -1n } = range;
  let next: ItemKey | undefined = from;
  while (next !== undefined) {
    writeKey(buffer, next, to);
    buffer.writeBigUInt64LE(newerThan + 1n, 40);
    buffer.writeBigUInt64LE(maximum, 48);
    buffer.writeUInt32LE(anyCount, 64);
    buffer.writeBigUInt64LE(BigInt(bufferSize), keySize);
    ioctl(fd, request.treeSearchV2, buffer);
    const count = buffer.readUInt32LE(64);
    let last: ItemKey | undefined;
    for (let index = 0, at = resultsAt; index < count; index++) {
      const item = readItem(buffer, at);
      at += headerSize + item.data.length;
      last = item;
      yield item;
    }
    next = last === undefined ? undefined : after(last);
  }
}

/** Minimum and maximum of object, offset, transaction and type stand apart in struct btrfs_ioctl_search_key. */
function writeKey(buffer: Buffer, from: ItemKey, to: ItemKey): void {
  buffer.fill(0, 0, resultsAt);
  buffer.writeBigUInt64LE(from.object, 8);
  buffer.writeBigUInt64LE(to.object, 16);
  buffer.writeBigUInt64LE(from.offset, 24);
  buffer.writeBigUInt64LE(to.offset, 32);
  buffer.writeUInt32LE(from.type, 56);
  buffer.writeUInt32LE(to.type, 60);
}

function readItem(buffer: Buffer, at: number): TreeItem {
  const length = buffer.readUInt32LE(at + 28);
  return {
    object: buffer.readBigUInt64LE(at + 8),
    offset: buffer.readBigUInt64LE(at + 16),
    type: buffer.readUInt32LE(at + 24),
    data: buffer.subarray(at + headerSize, at + headerSize + length),
  };
}

/** The key that follows; undefined after the last one. */
function after({ object, type, offset }: ItemKey): ItemKey | undefined {
  if (offset < maximum) return { object, type, offset: offset + 1n };
  if (type < 255) return { object, type: type + 1, offset: 0n };
  return object < maximum ? { object: object + 1n, type: 0, offset: 0n } : undefined;
}

export type SubvolumeInfo = {
  readonly uuid: string;
  /** Of the subvolume that this one is a snapshot of; zeros for none. */
  readonly parentUuid: string;
  /** The transaction that last changed a file in it. */
  readonly changed: bigint;
  /** The transaction that made it. */
  readonly made: bigint;
};

/** What btrfs knows of the subvolume that `fd` is in (struct btrfs_ioctl_get_subvol_info_args). */
export function subvolumeInfo(fd: number): SubvolumeInfo {
  const info = Buffer.alloc(504);
  ioctl(fd, request.getSubvolumeInfo, info);
  return {
    uuid: info.toString("hex", 296, 312),
    parentUuid: info.toString("hex", 312, 328),
    changed: info.readBigUInt64LE(344),
    made: info.readBigUInt64LE(352),
  };
}
