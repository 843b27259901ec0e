/**
 * Makes one tree what another one is in *passes*, while the source may still be written to: every pass copies what the
 * one before has not, so that the last one, when nobody writes any more, is short. Kept are types, contents, owners, modes, times,
 * xattrs, devices, sockets, holes, and which names are one inode.
 *
 * A file is *settled* when it was copied (or found equal) after a sync of its filesystem and had not been changed since that
 * sync began: whatever writes to it later, by mmap too, changes its ctime, and later passes look at no more than that. Where
 * the filesystem does not promise this nothing is ever settled. `compare` reads both sides and changes nothing.
 *
 * Goes by directory descriptors and never follows a link. Generators rest often, so that a worker hears of an abort and
 * tells how far it is. For workers.
 */
import { EngineError, errorMessage, systemCode } from "../base/errors.ts";
import { copyFileSteps } from "../host/copy.ts";
import {
  closeFd,
  closeRead,
  type FileStat,
  linkat,
  mkdirat,
  mknodat,
  O,
  openat2,
  readDirectory,
  readlinkat,
  symlinkat,
} from "../host/sys.ts";
import { type ByteString, bytesOf, joinPath, nameOf, quoted } from "./bytes.ts";
import { alignAttributes, removeAt } from "./match-tree.ts";
import { fileType, findStat, isDirectory, isFile, isSymlink, type Location, openDirectory } from "./root-tree.ts";
import { comparedContent } from "./same-content.ts";
import { type Side, sameBody, sameXattrs } from "./same-entry.ts";
import { plainXattrs, readXattrs } from "./write-tree.ts";

export type PassKind =
  /** Others write meanwhile: what vanishes or changes is left to the next pass. */
  | "live"
  /** Nobody writes: what cannot be copied is an error. */
  | "still"
  /** Nobody writes: reads both sides of all that no earlier pass has read on both sides, and only tells. */
  | "compare";

export type Pass = {
  readonly kind: PassKind;
  /** Reads both sides of what was only copied before; `compare` always does. */
  readonly thorough?: boolean | undefined;
  /** When the sync of the source that came before this began (Date.now()); undefined where its ctime cannot be trusted. */
  readonly syncedAt?: number | undefined;
};

export type PassResult = {
  /** Entries that were made, changed or removed; with `compare` those that differ. */
  readonly changed: number;
  /** Bytes of content that were copied. */
  readonly copied: number;
  /** Entries that came between the hands of a writer (`live` only). */
  readonly missed: number;
  /** Of `compare`: the first few paths that differ, for people. */
  readonly different: readonly string[];
};

/** What a generator tells when it rests: what it has passed since, in entries and bytes. */
export type Passed = { readonly entries: number; readonly bytes: number };

type Place = { readonly from: number; readonly to: number; readonly path: ByteString };
type Entry = {
  readonly name: ByteString;
  readonly path: ByteString;
  readonly now: Side;
  readonly there: Side | undefined;
};
/** `read`: both sides were read, not only one written. */
type Settled = { readonly signature: string; readonly read: boolean };

/** Beyond so many files nothing more is remembered: the last pass looks at the others again. */
const mostSettled = 2_000_000;
const mostTold = 10;
/** Milliseconds that clocks of files may lag behind. */
const lag = 1000;

export class Mirror {
  readonly #from: number;
  readonly #to: number;
  readonly #signal: AbortSignal;
  readonly #settled = new Map<ByteString, Settled>();
  #kind: PassKind = "live";
  #thorough = false;
  /** Milliseconds; files changed since are not settled. Undefined: none is. */
  #syncedAt: number | undefined;
  #changed = 0;
  #copied = 0;
  #missed = 0;
  #different: string[] = [];
  /** Inode of the source with several names -> the path of its first name. */
  #first = new Map<string, ByteString>();
  /** Inode of the target with several names -> that of the source which it stands for. */
  #standsFor = new Map<string, string>();

  /** Open directories, the caller's to close. */
  constructor(from: number, to: number, signal: AbortSignal) {
    this.#from = from;
    this.#to = to;
    this.#signal = signal;
  }

  *pass({ kind, thorough = kind === "compare", syncedAt }: Pass): Generator<Passed, PassResult> {
    this.#kind = kind;
    this.#thorough = thorough;
    this.#syncedAt = syncedAt;
    this.#changed = this.#copied = this.#missed = 0;
    this.#different = [];
    this.#first = new Map();
    this.#standsFor = new Map();
    const place = { from: this.#from, to: this.#to, path: "" };
    yield* this.#directory(place);
    this.#align({ name: "", path: "", now: have(place.from, ""), there: have(place.to, "") });
    return { changed: this.#changed, copied: this.#copied, missed: this.#missed, different: this.#different };
  }

  *#directory(place: Place): Generator<Passed, void> {
    const names = new Set([...readDirectory(place.from), ...readDirectory(place.to)].map(bytesOf));
    for (const name of [...names].sort()) {
      this.#signal.throwIfAborted();
      const path = joinPath(place.path, name);
      try {
        yield* this.#name(place, name, path);
      } catch (error) {
        if (this.#kind !== "live" || !isMoved(error)) throw explained(error, path);
        this.#missed++;
      }
      yield { entries: 1, bytes: 0 };
    }
  }

  *#name(place: Place, name: ByteString, path: ByteString): Generator<Passed, void> {
    const now = sideOf(place.from, name);
    const there = sideOf(place.to, name);
    if (now === undefined) {
      if (there !== undefined) this.#remove(path, there);
    } else if (isDirectory(now.stat.mode)) yield* this.#below({ name, path, now, there }, place);
    else yield* this.#leaf({ name, path, now, there }, place);
  }

  *#below(entry: Entry, place: Place): Generator<Passed, void> {
    const { name, path, now, there } = entry;
    const top = have(this.#to, "").stat;
    if (now.stat.ino === top.ino && now.stat.dev === top.dev)
      throw new EngineError("conflict", `the copy lies inside of what is copied, at ${quoted(`/${path}`)}`);
    if (there === undefined || !isDirectory(there.stat.mode)) {
      if (this.#tell(path)) return;
      if (there !== undefined) this.#remove(path, there);
      mkdirat(place.to, nameOf(name), 0o700);
      this.#changed++;
    }
    const from = openDirectory(place.from, name);
    try {
      const to = openDirectory(place.to, name);
      try {
        yield* this.#directory({ from, to, path });
      } finally {
        closeRead(to);
      }
    } finally {
      closeRead(from);
    }
    this.#align({ ...entry, there: have(place.to, name) });
  }

  *#leaf(entry: Entry, place: Place): Generator<Passed, void> {
    const { now, there, path } = entry;
    const inode = now.stat.nlink > 1 ? inodeOf(now.stat) : undefined;
    const first = inode === undefined ? undefined : this.#first.get(inode);
    if (first !== undefined) {
      this.#link(first, entry, place);
      return;
    }
    if (inode !== undefined) this.#first.set(inode, path);
    const mayStay = there !== undefined && this.#standIn(now.stat, there.stat);
    if (mayStay && this.#isSettled(path, now.stat)) {
      yield { entries: 0, bytes: now.stat.size };
      return;
    }
    if (mayStay && (yield* this.#equal(now, there))) {
      this.#align(entry);
      this.#settle(entry, place, true);
    } else {
      if (this.#tell(path)) return;
      if (there !== undefined) this.#remove(path, there);
      yield* this.#copy(entry, place);
      this.#settle(entry, place, false);
    }
  }

  *#equal(now: Side, there: Side): Generator<Passed, boolean> {
    if (!isFile(now.stat.mode) || !isFile(there.stat.mode)) return sameBody(now, there);
    return now.stat.size === there.stat.size && (yield* this.#equalContent(now.at, there.at));
  }

  *#equalContent(now: Location, there: Location): Generator<Passed, boolean> {
    const comparing = comparedContent(now, there);
    for (;;) {
      const { done, value } = comparing.next();
      if (done === true) return value;
      yield { entries: 0, bytes: value };
    }
  }

  *#copy({ name, path, now }: Entry, place: Place): Generator<Passed, void> {
    this.#changed++;
    const to = { fd: place.to, name };
    const { stat, at } = now;
    if (isFile(stat.mode)) yield* this.#content(now, to);
    else if (isSymlink(stat.mode)) symlinkat(readlinkat(at.fd, nameOf(at.name)), to.fd, nameOf(name));
    else mknodat(to.fd, nameOf(name), fileType(stat.mode) | 0o600, stat.rdevMajor, stat.rdevMinor);
    this.#align({ name, path, now, there: have(place.to, name) });
  }

  *#content({ at, stat }: Side, to: Location): Generator<Passed, void> {
    const from = openat2(at.fd, nameOf(at.name), { flags: O.RDONLY | O.NOFOLLOW | O.NONBLOCK });
    try {
      const flags = O.RDWR | O.CREAT | O.EXCL | O.NOFOLLOW;
      const made = openat2(to.fd, nameOf(to.name), { flags, mode: 0o600 });
      try {
        for (const bytes of copyFileSteps(from, made, stat.size)) {
          this.#copied += bytes;
          this.#signal.throwIfAborted();
          yield { entries: 0, bytes };
        }
      } finally {
        closeFd(made);
      }
    } finally {
      closeRead(from);
    }
  }

  /** A further name of an inode that was passed already. */
  #link(first: ByteString, { path, there, name }: Entry, place: Place): void {
    const target = findStat(this.#to, first);
    if (there !== undefined && target?.ino === there.stat.ino && target.dev === there.stat.dev) return;
    if (this.#tell(path)) return;
    if (there !== undefined) this.#remove(path, there);
    linkat(this.#to, nameOf(first), place.to, nameOf(name));
    this.#changed++;
  }

  /** Gives the target's entry the owner, attributes, permissions and time of the source's. */
  #align({ now, there, path }: Entry): void {
    if (there === undefined || sameAttributes(now, there) || this.#tell(path)) return;
    alignAttributes(now, there);
    this.#changed++;
  }

  /** Notes which inode stands for which; false when one stands for another already. */
  #standIn(now: FileStat, there: FileStat): boolean {
    if (there.nlink < 2 || isDirectory(there.mode)) return true;
    const key = inodeOf(there);
    const known = this.#standsFor.get(key);
    if (known === undefined) this.#standsFor.set(key, inodeOf(now));
    return known === undefined || known === inodeOf(now);
  }

  #isSettled(path: ByteString, now: FileStat): boolean {
    const settled = this.#settled.get(path);
    return settled?.signature === signatureOf(now) && (settled.read || !this.#thorough);
  }

  #settle({ name, path, now }: Entry, place: Place, read: boolean): void {
    const stat = findStat(place.from, name);
    const signature = signatureOf(now.stat);
    const changedAt = now.stat.ctimeSec * 1000 + now.stat.ctimeNsec / 1e6;
    const isQuiet = this.#syncedAt !== undefined && changedAt + lag < this.#syncedAt;
    if (isQuiet && stat !== undefined && signatureOf(stat) === signature && this.#settled.size < mostSettled)
      this.#settled.set(path, { signature, read });
    else this.#settled.delete(path);
  }

  /** True when there is nothing to do but to tell. */
  #tell(path: ByteString): boolean {
    if (this.#kind !== "compare") return false;
    this.#changed++;
    if (this.#different.length < mostTold) this.#different.push(quoted(`/${path}`));
    return true;
  }

  #remove(path: ByteString, there: Side): void {
    if (this.#tell(path)) return;
    removeAt(there.at, there.stat, this.#signal);
    this.#changed++;
  }
}

function sideOf(fd: number, name: ByteString): Side | undefined {
  const stat = findStat(fd, name);
  return stat === undefined ? undefined : { at: { fd, name }, stat };
}

function have(fd: number, name: ByteString): Side {
  const side = sideOf(fd, name);
  if (side === undefined) throw new EngineError("conflict", `${quoted(name)} went away while it was copied`);
  return side;
}

const inodeOf = ({ dev, ino }: FileStat): string => `${dev}:${ino}`;

const signatureOf = (stat: FileStat): string =>
  `${stat.ino}:${stat.size}:${stat.mtimeSec}.${stat.mtimeNsec}:${stat.ctimeSec}.${stat.ctimeNsec}`;

/** As exactly as the target keeps times: many network filesystems cut them. */
function sameAttributes({ at, stat }: Side, there: Side): boolean {
  const { mode, uid, gid, mtimeSec, mtimeNsec } = there.stat;
  if (stat.mode !== mode || stat.uid !== uid || stat.gid !== gid || stat.mtimeSec !== mtimeSec) return false;
  const cut = [1, 100, 1000, 1_000_000, 1_000_000_000].some(
    (unit) => stat.mtimeNsec - (stat.mtimeNsec % unit) === mtimeNsec,
  );
  return cut && sameXattrs(readXattrs(at, plainXattrs), readXattrs(there.at, plainXattrs));
}

/** The errors of names that went or changed under our hands, and of files that became shorter. */
function isMoved(error: unknown): boolean {
  if (error instanceof EngineError) return error.code === "conflict" && error.message.includes("went away");
  return ["ENOENT", "ENOTDIR", "ELOOP", "ENXIO", "EIO", "ESTALE"].includes(systemCode(error) ?? "");
}

/** An error that names the entry; what the target's filesystem cannot keep is `unsupported`. */
function explained(error: unknown, path: ByteString): unknown {
  const code = systemCode(error);
  if (error instanceof EngineError || code === undefined) return error;
  const what = `cannot copy ${quoted(`/${path}`)}: ${errorMessage(error)}`;
  if (code === "ENOSPC" || code === "EDQUOT") return new EngineError("no_space", what, { cause: error });
  if (code === "EPERM" || code === "ENOTSUP" || code === "EOPNOTSUPP")
    return new EngineError("unsupported", `${what}: the filesystem that is copied to does not keep it`, {
      cause: error,
    });
  return new EngineError("internal", what, { cause: error });
}
