/**
 * Makes one tree what another one is, on another filesystem or driver: the *source* is a container's tree, the *target*
 * shows what the container began with, and where the two may differ the target is changed until it does not. Nothing
 * that is equal already is touched, so a target that keeps changes apart stays small. Everything is kept that a layer
 * tar could not carry too: sockets, holes, names that look like whiteouts, links to files below.
 *
 * Where they may differ is said in one of two ways, or not at all (then everything is compared with the target):
 * `base`, the tree that the source began as, entry by entry; and `candidates`, paths (see path-scope.ts), which with a
 * base count only for what is the same inode in both. Neither tree changes meanwhile. Goes by directory descriptors and
 * never follows a link. For workers.
 */
import { EngineError, systemCode } from "../base/errors.ts";
import { copyFileData } from "../host/copy.ts";
import {
  AT_FDCWD,
  AT_REMOVEDIR,
  closeFd,
  type FileStat,
  fchmodat,
  fchownat,
  linkat,
  mkdirat,
  mknodat,
  O,
  openat2,
  readDirectory,
  readlinkat,
  removeXattr,
  setXattr,
  symlinkat,
  unlinkat,
  utimensat,
} from "../host/sys.ts";
import { type ByteString, bytesOf, joinPath, nameOf, quoted } from "./bytes.ts";
import { type PathScope, scopeOf } from "./path-scope.ts";
import { fileType, findStat, isDirectory, isFile, isSymlink, type Location, openDirectory } from "./root-tree.ts";
import { type Side, sameAttributes, sameBody, sameEntry } from "./same-entry.ts";
import { plainXattrs, readXattrs } from "./write-tree.ts";

export type MatchArgument = {
  /** Host paths of our own choice. */
  readonly source: string;
  readonly target: string;
  readonly base?: string | undefined;
  readonly candidates?: readonly ByteString[] | undefined;
  /** The target keeps times in whole seconds: those are what is compared with it. */
  readonly wholeSeconds?: boolean | undefined;
  /** The overlayfs upper of the source: what stands in it are the candidates, and the base's inodes say nothing. */
  readonly upper?: string | undefined;
};

/** Changes `target`. Where that cannot be done exactly it fails, and a part of it stays. */
export function matchTree(argument: MatchArgument, signal: AbortSignal): void {
  walk(argument, signal, false);
}

/** Paths at which the trees differ, as far as `matchTree` would look; the first few. Changes nothing. */
export function unmatchedPaths(argument: MatchArgument, signal: AbortSignal): ByteString[] {
  return walk(argument, signal, true);
}

function walk(argument: MatchArgument, signal: AbortSignal, lookOnly: boolean): ByteString[] {
  const { source, target, candidates, upper, wholeSeconds = false } = argument;
  using from = opened(source);
  using to = opened(target);
  const listed = upper === undefined ? candidates : pathsIn(upper, signal);
  const base = upper === undefined || listed === undefined ? argument.base : undefined;
  using began = base === undefined ? undefined : opened(base);
  const scope = listed === undefined ? undefined : scopeOf(listed);
  const matcher = new Matcher(to.fd, { signal, lookOnly, wholeSeconds });
  matcher.root({ path: "", from: from.fd, to: to.fd, base: began?.fd, scope });
  return matcher.different;
}

function opened(path: string): Disposable & { readonly fd: number } {
  const fd = openat2(AT_FDCWD, path, { flags: O.RDONLY | O.DIRECTORY });
  return { fd, [Symbol.dispose]: () => closeFd(fd) };
}

/** Beyond so many, comparing everything is the better way. */
const mostListed = 200_000;

/** Every path in a tree, the root among them; undefined for too many. */
function pathsIn(root: string, signal: AbortSignal): ByteString[] | undefined {
  const paths = [""];
  using top = opened(root);
  const list = (fd: number, parent: ByteString): boolean => {
    for (const entry of readDirectory(fd)) {
      signal.throwIfAborted();
      const name = bytesOf(entry);
      const path = joinPath(parent, name);
      if (paths.push(path) > mostListed) return false;
      if (!isDirectory(findStat(fd, name)?.mode ?? 0)) continue;
      const below = openDirectory(fd, name);
      try {
        if (!list(below, path)) return false;
      } finally {
        closeFd(below);
      }
    }
    return true;
  };
  return list(top.fd, "") ? paths : undefined;
}

/** One directory in all trees. */
type Place = {
  readonly path: ByteString;
  readonly from: number;
  readonly to: number;
  /** Undefined where the source began with nothing, or all is compared with the target. */
  readonly base: number | undefined;
  /** Undefined: everywhere. */
  readonly scope: PathScope | undefined;
};

type Entry = {
  readonly name: ByteString;
  readonly path: ByteString;
  readonly now: Side;
  readonly before: Side | undefined;
  readonly there: Side | undefined;
};

const mostTold = 10;

type MatcherOptions = { readonly signal: AbortSignal; readonly lookOnly: boolean; readonly wholeSeconds: boolean };

class Matcher {
  readonly different: ByteString[] = [];
  readonly #rootFd: number;
  readonly #signal: AbortSignal;
  readonly #lookOnly: boolean;
  readonly #wholeSeconds: boolean;
  /** Inode of the source with several names -> the path of its first name. */
  readonly #first = new Map<string, ByteString>();
  /** Inode of the target or the base with several names -> that of the source which it stands for. */
  readonly #standsFor = new Map<string, string>();

  constructor(rootFd: number, options: MatcherOptions) {
    this.#rootFd = rootFd;
    this.#signal = options.signal;
    this.#lookOnly = options.lookOnly;
    this.#wholeSeconds = options.wholeSeconds;
  }

  root(place: Place): void {
    const now = sideOf(place.from, "");
    const there = sideOf(place.to, "");
    const before = place.base === undefined ? undefined : sideOf(place.base, "");
    if (now === undefined || there === undefined) return;
    const touched = this.#directory(place);
    if (touched || this.#mayDiffer({ name: "", path: "", now, before, there }, place.scope))
      this.#align({ name: "", path: "", now, before, there }, place);
  }

  /** True when names in the target were changed. */
  #directory(place: Place): boolean {
    const { from, to, base, scope } = place;
    let touched = false;
    for (const name of namesToLookAt(from, to, scope)) {
      this.#signal.throwIfAborted();
      const now = sideOf(from, name);
      const there = sideOf(to, name);
      const path = joinPath(place.path, name);
      if (now === undefined) {
        if (there !== undefined) touched = this.#remove(path, there) || touched;
        continue;
      }
      const before = base === undefined ? undefined : sideOf(base, name);
      touched = this.#entry({ name, path, now, before, there }, place) || touched;
    }
    return touched;
  }

  /** True when the name was made in the target. */
  #entry(entry: Entry, place: Place): boolean {
    const scope = scopeBelow(entry, place);
    if (scope === "same") return false;
    if (!isDirectory(entry.now.stat.mode)) return this.#leaf(entry, place, scope);
    const { before, there, now, name, path } = entry;
    const isThere = there !== undefined && isDirectory(there.stat.mode);
    if (!isThere) {
      if (this.#tell(path)) return false;
      if (there !== undefined) this.#remove(path, there);
      mkdirat(place.to, nameOf(name), 0o700);
    }
    const isNew = before === undefined || !isDirectory(before.stat.mode) || !isThere;
    const touched = this.#below({ ...place, path, base: isNew ? undefined : place.base, scope }, name);
    if (!isThere || touched || this.#mayDiffer({ name, path, now, before, there }, scope)) this.#align(entry, place);
    return !isThere;
  }

  #below(place: Place, name: ByteString): boolean {
    const fds: number[] = [];
    const open = (fd: number): number => {
      fds.push(openDirectory(fd, name));
      return fds.at(-1) ?? -1;
    };
    try {
      const [from, to] = [open(place.from), open(place.to)];
      return this.#directory({ ...place, from, to, base: place.base === undefined ? undefined : open(place.base) });
    } finally {
      for (const fd of fds) closeFd(fd);
    }
  }

  /** Whether a directory's own attributes are to be compared with the target's. */
  #mayDiffer({ now, before }: Entry, scope: PathScope | undefined): boolean {
    if (scope !== undefined) return scope.listed;
    return before === undefined || !sameAttributes(now, before);
  }

  #leaf(entry: Entry, place: Place, scope: PathScope | undefined): boolean {
    const { now, before, there, path } = entry;
    const inode = inodeOf(now.stat);
    const first = inode === undefined ? undefined : this.#first.get(inode);
    if (scope === undefined && before !== undefined && this.#isUnchanged(now, before)) {
      if (inode !== undefined && first === undefined) this.#first.set(inode, path);
      return false;
    }
    if (first !== undefined) return this.#link(first, entry, place);
    if (inode !== undefined) this.#first.set(inode, path);
    if (there !== undefined && sameBody(now, there) && this.#mayStay(now, there)) {
      this.#align(entry, place);
      return false;
    }
    if (this.#tell(path)) return false;
    if (there !== undefined) this.#remove(path, there);
    try {
      copyLeaf(now, { fd: place.to, name: entry.name });
    } catch (error) {
      throw refusedName(error, path);
    }
    this.#align(entry, place);
    return true;
  }

  /** The same entry under the same names. */
  #isUnchanged(now: Side, before: Side): boolean {
    if (!sameEntry(now, before) || now.stat.nlink !== before.stat.nlink) return false;
    return this.#standIn(now.stat, before.stat);
  }

  /** The target's inode has no names that the source's has not. A merged view may count names that do not show. */
  #mayStay(now: Side, there: Side): boolean {
    if (!this.#lookOnly && now.stat.nlink !== there.stat.nlink) return false;
    return this.#standIn(now.stat, there.stat);
  }

  /** Notes which inode stands for which; false when one stands for another already. */
  #standIn(now: FileStat, other: FileStat): boolean {
    if (other.nlink < 2) return true;
    const key = `${other.dev}:${other.ino}`;
    const own = `${now.dev}:${now.ino}`;
    const known = this.#standsFor.get(key);
    if (known === undefined) this.#standsFor.set(key, own);
    return known === undefined || known === own;
  }

  #link(first: ByteString, { path, there, name }: Entry, place: Place): boolean {
    const target = findStat(this.#rootFd, first);
    if (there !== undefined && target?.ino === there.stat.ino && target.dev === there.stat.dev) return false;
    if (this.#tell(path)) return false;
    if (there !== undefined) this.#remove(path, there);
    linkat(this.#rootFd, nameOf(first), place.to, nameOf(name));
    return true;
  }

  /** Gives the target's entry the owner, attributes, permissions and time of the source's. */
  #align({ now, name, path }: Entry, { to }: Place): void {
    const there = sideOf(to, name);
    if (there !== undefined && sameAttributes(now, there, this.#wholeSeconds)) return;
    if (!this.#tell(path) && there !== undefined) alignAttributes(now, there);
  }

  /** True when there is nothing to do but to tell. */
  #tell(path: ByteString): boolean {
    if (this.#lookOnly && this.different.length < mostTold) this.different.push(path);
    return this.#lookOnly;
  }

  /** With everything in it. */
  #remove(path: ByteString, there: Side): boolean {
    if (this.#tell(path)) return false;
    removeAt(there.at, there.stat, this.#signal);
    return true;
  }
}

function sideOf(fd: number, name: ByteString): Side | undefined {
  const stat = findStat(fd, name);
  return stat === undefined ? undefined : { at: { fd, name }, stat };
}

/** Names of all trees, or those that lead to candidates. */
function namesToLookAt(from: number, to: number, scope: PathScope | undefined): readonly ByteString[] {
  if (scope !== undefined && !scope.listed) return [...scope.below.keys()].sort();
  return [...new Set([...readDirectory(from), ...readDirectory(to)].map(bytesOf))].sort();
}

/**
 * What of an entry may differ: nothing, what the scope says, or anything. An inode that is not the base's came from
 * elsewhere with all that is in it, and nobody lists that.
 */
function scopeBelow({ name, now, before, there }: Entry, { base, scope }: Place): PathScope | "same" | undefined {
  if (scope === undefined) return undefined;
  const below = scope.below.get(name);
  if (there === undefined) return undefined;
  if (base !== undefined) return before?.stat.ino === now.stat.ino ? (below ?? "same") : undefined;
  return below ?? "same";
}

/** Undefined for what has one name only. */
const inodeOf = ({ nlink, mode, dev, ino }: FileStat): string | undefined =>
  nlink > 1 && !isDirectory(mode) ? `${dev}:${ino}` : undefined;

function copyLeaf({ at, stat }: Side, to: Location): void {
  const name = nameOf(to.name);
  if (isFile(stat.mode)) copyFile(at, to, stat.size);
  else if (isSymlink(stat.mode)) symlinkat(readlinkat(at.fd, nameOf(at.name)), to.fd, name);
  else mknodat(to.fd, name, fileType(stat.mode) | 0o600, stat.rdevMajor, stat.rdevMinor);
}

/** fuse-overlayfs takes no names that are whiteouts to it. */
function refusedName(error: unknown, path: ByteString): unknown {
  if (systemCode(error) !== "EINVAL") return error;
  const words = `${quoted(`/${path}`)} cannot be made there: the storage driver keeps names like it for itself`;
  return new EngineError("unsupported", words, { cause: error });
}

function copyFile(at: Location, to: Location, size: number): void {
  const from = openat2(at.fd, nameOf(at.name), { flags: O.RDONLY | O.NOFOLLOW | O.NONBLOCK });
  try {
    const flags = O.RDWR | O.CREAT | O.EXCL | O.NOFOLLOW;
    const made = openat2(to.fd, nameOf(to.name), { flags, mode: 0o600 });
    try {
      if (size > 0) copyFileData(from, made, size);
    } finally {
      closeFd(made);
    }
  } finally {
    closeFd(from);
  }
}

/** In the one order that keeps all: owner (clears setuid and capabilities), attributes, permissions, time. */
export function alignAttributes(now: Side, there: Side): void {
  const { fd } = there.at;
  const name = nameOf(there.at.name);
  const { uid, gid, mode, mtimeSec, mtimeNsec } = now.stat;
  if (uid !== there.stat.uid || gid !== there.stat.gid) fchownat(fd, name, uid, gid);
  const wanted = readXattrs(now.at, plainXattrs);
  const found = readXattrs(there.at, plainXattrs);
  for (const attribute of found.keys()) if (!wanted.has(attribute)) removeXattr(fd, name, attribute);
  for (const [attribute, value] of wanted)
    if (found.get(attribute)?.equals(value) !== true) setXattr(fd, name, attribute, value);
  if (!isSymlink(mode)) fchmodat(fd, name, mode & 0o7777);
  const time = BigInt(mtimeSec) * 1_000_000_000n + BigInt(mtimeNsec);
  utimensat(fd, name, time, time);
}

/** Removes a name with everything in it. */
export function removeAt({ fd, name }: Location, stat: FileStat, signal: AbortSignal): void {
  signal.throwIfAborted();
  if (!isDirectory(stat.mode)) {
    unlinkat(fd, nameOf(name));
    return;
  }
  const directory = openDirectory(fd, name);
  try {
    for (const entry of readDirectory(directory)) {
      const child = sideOf(directory, bytesOf(entry));
      if (child !== undefined) removeAt(child.at, child.stat, signal);
    }
  } finally {
    closeFd(directory);
  }
  unlinkat(fd, nameOf(name), AT_REMOVEDIR);
}
