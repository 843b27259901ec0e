/**
 * An exact copy of a directory tree: types, contents, owners, modes, modification times, xattrs, device numbers, sockets
 * and link structure. Goes by directory descriptors, one component a step, and never follows a link, so neither tree can
 * lead the copy astray; names are bytes. The source must not change meanwhile. For workers: synchronous, or in steps that a
 * caller may rest between, each of which tells what it has passed.
 */
import { systemCode } from "../base/errors.ts";
import { copyFileSteps } from "./copy.ts";
import {
  closeFd,
  closeRead,
  type FileStat,
  fchmodat,
  fchownat,
  getXattr,
  linkat,
  listXattrs,
  mkdirat,
  mknodat,
  O,
  openat2,
  readDirectory,
  readlinkat,
  setXattr,
  statat,
  symlinkat,
  utimensat,
} from "./sys.ts";

const type = { mask: 0o170000, directory: 0o040000, file: 0o100000, symlink: 0o120000 } as const;
const openDirectory = { flags: O.RDONLY | O.DIRECTORY | O.NOFOLLOW };

export type CopyTreeOptions = {
  readonly signal: AbortSignal;
  /** What to do with an xattr that the target's filesystem does not have: `fail` keeps the copy exact. */
  readonly unsupportedXattrs: "fail" | "ignore";
};

type Copy = CopyTreeOptions & {
  readonly rootFd: number;
  /** Inode of a file with several names -> the path, below the target, of its first copy. */
  readonly links: Map<string, Buffer>;
};
type Place = { readonly from: number; readonly to: number; readonly path: Buffer };
/** An entry in an open directory; an empty name is the directory itself. */
export type EntryAt = readonly [directory: number, name: Buffer | string];

/** Entries and bytes since the step before; the bytes of an entry come before it. */
export type CopyStep = { readonly entries: number; readonly bytes: number };
type Steps = Generator<CopyStep, void>;

/** Copies what is in the open directory `from` into the empty open directory `to`, then the directory's own attributes. */
export function copyTree(from: number, to: number, options: CopyTreeOptions): void {
  for (const _ of copyTreeSteps(from, to, options));
}

/** As {@link copyTree}. */
export function* copyTreeSteps(from: number, to: number, options: CopyTreeOptions): Steps {
  const copy: Copy = { ...options, rootFd: to, links: new Map() };
  yield* copyEntries(copy, { from, to, path: Buffer.alloc(0) });
  copyAttributes([from, ""], [to, ""], options);
}

function* copyEntries(copy: Copy, place: Place): Steps {
  for (const name of readDirectory(place.from)) {
    copy.signal.throwIfAborted();
    const stat = statat(place.from, name);
    const path = place.path.length === 0 ? name : Buffer.concat([place.path, Buffer.from("/"), name]);
    if ((stat.mode & type.mask) === type.directory) yield* copyDirectory(copy, { ...place, path }, name);
    else if (linkCopied(copy, { ...place, path }, { name, stat })) continue;
    else for (const bytes of leafSteps([place.from, name], [place.to, name], stat)) yield { entries: 0, bytes };
    setAttributes([place.from, name], [place.to, name], { ...copy, stat });
    yield { entries: 1, bytes: 0 };
  }
}

function* copyDirectory(copy: Copy, place: Place, name: Buffer): Steps {
  mkdirat(place.to, name, 0o700);
  const from = openat2(place.from, name, openDirectory);
  try {
    const to = openat2(place.to, name, openDirectory);
    try {
      yield* copyEntries(copy, { from, to, path: place.path });
    } finally {
      closeRead(to);
    }
  } finally {
    closeRead(from);
  }
}

/** True when the inode was copied before: the name is then a link to that copy. */
function linkCopied(copy: Copy, place: Place, entry: { name: Buffer; stat: FileStat }): boolean {
  if (entry.stat.nlink < 2) return false;
  const key = `${entry.stat.dev}:${entry.stat.ino}`;
  const first = copy.links.get(key);
  if (first === undefined) {
    copy.links.set(key, place.path);
    return false;
  }
  linkat(copy.rootFd, first, place.to, entry.name);
  return true;
}

function* leafSteps(from: EntryAt, to: EntryAt, stat: FileStat): Generator<number, void> {
  const kind = stat.mode & type.mask;
  if (kind === type.file) yield* fileSteps(from, to, stat.size);
  else if (kind === type.symlink) symlinkat(readlinkat(...from), ...to);
  else mknodat(...to, kind | 0o600, stat.rdevMajor, stat.rdevMinor);
}

function* fileSteps(source: EntryAt, target: EntryAt, size: number): Generator<number, void> {
  const from = openat2(...source, { flags: O.RDONLY | O.NOFOLLOW | O.NONBLOCK });
  try {
    const to = openat2(...target, { flags: O.RDWR | O.CREAT | O.EXCL | O.NOFOLLOW, mode: 0o600 });
    try {
      if (size > 0) yield* copyFileSteps(from, to, size);
    } finally {
      closeFd(to);
    }
  } finally {
    closeRead(from);
  }
}

/** An exact copy of one entry that is no directory. */
export function copyEntry(from: EntryAt, to: EntryAt, options: Pick<CopyTreeOptions, "unsupportedXattrs">): void {
  const stat = statat(...from);
  for (const _ of leafSteps(from, to, stat));
  setAttributes(from, to, { ...options, stat });
}

/** Copies owner, xattrs, mode and modification time of one entry to another. */
export function copyAttributes(from: EntryAt, to: EntryAt, options: Pick<CopyTreeOptions, "unsupportedXattrs">): void {
  setAttributes(from, to, { ...options, stat: statat(...from) });
}

/** In the one order that keeps all: owner (clears setuid), xattrs (some need the owner), mode, times. */
function setAttributes(
  from: EntryAt,
  to: EntryAt,
  { stat, unsupportedXattrs }: Pick<CopyTreeOptions, "unsupportedXattrs"> & { readonly stat: FileStat },
): void {
  fchownat(...to, stat.uid, stat.gid);
  for (const attribute of listXattrs(...from)) {
    const value = getXattr(...from, attribute);
    if (value === undefined) continue;
    try {
      setXattr(...to, attribute, value);
    } catch (error) {
      if (unsupportedXattrs === "fail" || !["ENOTSUP", "EOPNOTSUPP"].includes(systemCode(error) ?? "")) throw error;
    }
  }
  if ((stat.mode & type.mask) !== type.symlink) fchmodat(...to, stat.mode & 0o7777);
  const time = BigInt(stat.mtimeSec) * 1_000_000_000n + BigInt(stat.mtimeNsec);
  utimensat(...to, time, time);
}
