/**
 * Where a snapshot may differ from the subvolume it was made of, without walking either. btrfs writes into every inode
 * the transaction that last touched it (a change of names touches the directory, a link or an attribute the file), and
 * into every block of its trees the transaction that wrote it. So the inodes newer than the snapshot are found in the
 * blocks newer than the snapshot; their names lead up to the root.
 *
 * Promises: every inode that was touched since is listed under each of its names. What has no name left is found by
 * its directory, which was touched. Data must have been written out before (syncfs): what is still in memory is in no tree.
 */
import { systemCode } from "../../base/errors.ts";
import { subvolumeInode } from "../../host/btrfs.ts";
import type { TaskContext } from "../../host/pool.ts";
import { AT_FDCWD, closeFd, O, openat2 } from "../../host/sys.ts";
import { itemType, searchBuffer, searchTree, subvolumeInfo } from "./tree-search.ts";

/** Beyond these a walk is the better way, and memory stays small whatever a container does. */
const most = { inodes: 100_000, characters: 16 << 20, depth: 2048 };

const last = 2n ** 64n - 1n;
/** Inodes have numbers in between (linux/btrfs_tree.h, BTRFS_LAST_FREE_OBJECTID). */
const lastInode = last - 255n;
const noUuid = "0".repeat(32);
/** In struct btrfs_inode_item: the transaction, what follows it, the time of the last read, what follows that. */
const [transactionAt, sizeAt, readTimeAt, changeTimeAt] = [8, 16, 112, 124] as const;

export type CandidatesArgument = { readonly writable: string; readonly parent: string };

/** Paths at which `writable` may differ from `parent`; undefined where it is no snapshot of it as it stands, or that cannot be told. */
export function candidatesTask(
  { writable, parent }: CandidatesArgument,
  { signal }: Pick<TaskContext, "signal">,
): string[] | undefined {
  using tree = opened(writable);
  using base = opened(parent);
  try {
    const made = snapshotOf(tree.fd, base.fd);
    return made === undefined ? undefined : pathsNewerThan({ tree: tree.fd, base: base.fd, made }, signal);
  } catch (error) {
    // A kernel without these requests, or a daemon that may not make them.
    if (["ENOTTY", "EPERM", "EOPNOTSUPP"].includes(systemCode(error) ?? "")) return undefined;
    throw error;
  }
}

/** The transaction that made the snapshot, if it is one of a base that has not changed since. */
function snapshotOf(tree: number, base: number): bigint | undefined {
  const [child, parent] = [subvolumeInfo(tree), subvolumeInfo(base)];
  if (parent.uuid === noUuid || child.parentUuid !== parent.uuid || parent.changed > child.made) return undefined;
  return child.made;
}

type Snapshot = { readonly tree: number; readonly base: number; readonly made: bigint };

function pathsNewerThan(snapshot: Snapshot, signal: AbortSignal): string[] | undefined {
  const inodes = newInodes(snapshot, signal);
  if (inodes === undefined) return undefined;
  const names = new Names(snapshot.tree);
  const paths: string[] = [];
  let characters = 0;
  for (const inode of inodes) {
    signal.throwIfAborted();
    for (const path of names.paths(inode)) {
      characters += path.length;
      if (characters > most.characters) return undefined;
      paths.push(path);
    }
    if (names.tooDeep) return undefined;
  }
  return paths;
}

function newInodes({ tree, base, made }: Snapshot, signal: AbortSignal): bigint[] | undefined {
  const found: bigint[] = [];
  const range = {
    from: { object: subvolumeInode, type: itemType.inode, offset: 0n },
    to: { object: lastInode, type: 255, offset: last },
    newerThan: made,
  };
  const buffer = searchBuffer();
  for (const { object, type, data } of searchTree(tree, range)) {
    if (type !== itemType.inode || data.readBigUInt64LE(transactionAt) <= made) continue;
    signal.throwIfAborted();
    if (sameButForReading(data, findInode(base, object, buffer))) continue;
    found.push(object);
    if (found.length > most.inodes) return undefined;
  }
  return found;
}

function findInode(fd: number, inode: bigint, buffer: Buffer): Buffer | undefined {
  const key = { object: inode, type: itemType.inode, offset: 0n };
  for (const { data } of searchTree(fd, { from: key, to: key }, buffer)) return data;
  return undefined;
}

/**
 * Whether only the access time moved. Whatever else is done to an inode, its names or its attributes moves its counter
 * of changes (`sequence`) or its change time, which nobody can set back.
 */
function sameButForReading(now: Buffer, before: Buffer | undefined): boolean {
  const same = (from: number, to: number): boolean => before?.compare(now, from, to, from, to) === 0;
  return (
    before?.length === now.length &&
    same(0, transactionAt) &&
    same(sizeAt, readTimeAt) &&
    same(changeTimeAt, now.length)
  );
}

type Name = { readonly parent: bigint; readonly name: string };

/** Paths of inodes, by the references that btrfs keeps from each inode to its directories. */
class Names {
  tooDeep = false;
  readonly #fd: number;
  readonly #buffer = searchBuffer();
  readonly #directories = new Map<bigint, string | undefined>([[subvolumeInode, ""]]);

  constructor(fd: number) {
    this.#fd = fd;
  }

  /** None for a file that is only open. */
  *paths(inode: bigint): Generator<string, void, void> {
    if (inode === subvolumeInode) yield "";
    else
      for (const { parent, name } of this.#namesOf(inode)) {
        const above = this.#directory(parent);
        if (above !== undefined) yield joined(above, name);
      }
  }

  /** A directory has one name. Upwards until one is known, then down again. */
  #directory(inode: bigint): string | undefined {
    const unknown: { readonly inode: bigint; readonly name: string }[] = [];
    let at: bigint | undefined = inode;
    while (at !== undefined && !this.#directories.has(at)) {
      const [own]: readonly Name[] = this.#namesOf(at);
      if (own === undefined || unknown.length >= most.depth) {
        this.tooDeep ||= own !== undefined;
        this.#directories.set(at, undefined);
        break;
      }
      unknown.push({ inode: at, name: own.name });
      at = own.parent;
    }
    let path = at === undefined ? undefined : this.#directories.get(at);
    for (const { inode: below, name } of unknown.reverse()) {
      path = path === undefined ? undefined : joined(path, name);
      this.#directories.set(below, path);
    }
    return path;
  }

  #namesOf(inode: bigint): Name[] {
    const names: Name[] = [];
    const range = {
      from: { object: inode, type: itemType.inodeRef, offset: 0n },
      to: { object: inode, type: itemType.inodeExtref, offset: last },
    };
    for (const { type, offset, data } of searchTree(this.#fd, range, this.#buffer))
      for (let at = 0; at < data.length; ) {
        // struct btrfs_inode_ref: index, length, name; btrfs_inode_extref has the parent before them.
        const extended = type === itemType.inodeExtref;
        const parent = extended ? data.readBigUInt64LE(at) : offset;
        const lengthAt = at + (extended ? 16 : 8);
        const length = data.readUInt16LE(lengthAt);
        names.push({ parent, name: data.toString("latin1", lengthAt + 2, lengthAt + 2 + length) });
        at = lengthAt + 2 + length;
      }
    return names;
  }
}

const joined = (parent: string, name: string): string => (parent === "" ? name : `${parent}/${name}`);

function opened(path: string): Disposable & { readonly fd: number } {
  const fd = openat2(AT_FDCWD, path, { flags: O.RDONLY | O.DIRECTORY | O.NOFOLLOW });
  return { fd, [Symbol.dispose]: () => closeFd(fd) };
}
