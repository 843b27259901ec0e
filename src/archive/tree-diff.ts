/**
 * What differs between a tree and the one it began as, as a sequence in the order a layer tar wants: a directory
 * before what is in it, deletions before their siblings, names sorted by bytes. Directories that lead to a change are
 * part of the sequence, those that lead nowhere are not.
 *
 * A directory of the new tree is read in one of two ways: `whole` (what is missing was deleted) or `merged` (it holds
 * only changes; a *dialect* says which of its entries are whiteouts and which directories hide all that is below).
 * Two entries are the same when mode, owner, device number and attributes agree and, but for directories, time, size
 * and link target. Synchronous generators: for workers; descriptors in a difference are good until the next one.
 */
import { closeRead, type FileStat, O, readNames } from "../host/sys.ts";
import { type ByteString, joinPath, nameOf } from "./bytes.ts";
import type { PathScope } from "./path-scope.ts";
import { findStat, isDirectory, isFile, isSymlink, type Location } from "./root-tree.ts";
import { sameContent } from "./same-content.ts";
import { linkTarget, sameXattrs } from "./same-entry.ts";
import { isGone, openQuietly, readXattrs, type XattrNames } from "./write-tree.ts";

export type Difference =
  | { readonly kind: "deleted"; readonly path: ByteString }
  | {
      readonly kind: "added" | "modified";
      /** "" for the root. */
      readonly path: ByteString;
      readonly at: Location;
      readonly stat: FileStat;
    };

/** A regular file, as its directory says, in a directory that is new. Nobody has looked at it. */
export type NewFile = { readonly kind: "new file"; readonly path: ByteString; readonly at: Location };

/** How the new tree says what it means. */
export type Dialect = {
  /** Top directories hold changes only. */
  readonly merged: boolean;
  readonly newXattrs: XattrNames;
  readonly oldXattrs: XattrNames;
  readonly isWhiteout: (at: Location, stat: FileStat, directory: DirectoryMarks) => boolean;
  readonly marks: (at: Location) => DirectoryMarks;
  /** Throws for an entry that cannot be read from here. */
  readonly check: (at: Location, stat: FileStat, path: ByteString) => void;
  /** Entries stand here because something touched them: where all else agrees, contents are compared. */
  readonly compareContents: boolean;
};

export type DirectoryMarks = {
  /** Nothing of the layers below shows in it. */
  readonly opaque: boolean;
  /** Empty files with an attribute are whiteouts too. */
  readonly xattrWhiteouts: boolean;
};

export type DiffOptions = {
  /**
   * Also yields files that are the same but have other names than before, so that hard links can be kept.
   */
  readonly links?: boolean;
  /** Where to look; everywhere unless given. Not for dialects that merge. */
  readonly scope?: PathScope | undefined;
};

type Frame = {
  readonly parent: Frame | undefined;
  /** Said once something in it differs. */
  pending: Difference | undefined;
};

type Pair = {
  readonly path: ByteString;
  readonly fresh: Location;
  /** What stood there before; undefined for a directory that is new. */
  readonly old: Location | undefined;
  readonly merged: boolean;
  /** What of it may differ; undefined: anything. Only where both sides are one inode. */
  readonly scope?: PathScope | undefined;
};

type Side = { readonly at: Location; readonly stat: FileStat };

type Entry = {
  readonly path: ByteString;
  readonly now: Side;
  readonly merged: boolean;
  readonly scope?: PathScope | undefined;
};

type Walk = Generator<Difference | NewFile, void, undefined>;
/** Without a stat: a regular file that is not looked at. */
type Look = { readonly name: ByteString; readonly stat: FileStat | undefined; readonly whiteout: boolean };
type Looking = { readonly marks: DirectoryMarks; readonly files: ReadonlySet<ByteString> | undefined };

export class TreeDiff {
  readonly #dialect: Dialect;
  readonly #links: boolean;
  readonly #scope: PathScope | undefined;
  #unread = false;

  constructor(dialect: Dialect, options: DiffOptions = {}) {
    this.#dialect = dialect;
    this.#links = options.links === true;
    this.#scope = options.scope;
  }

  /** `fresh` and `old` are open directories. */
  *differences(fresh: number, old: number): Generator<Difference, void, undefined> {
    for (const difference of this.#differences(fresh, old)) if (difference.kind !== "new file") yield difference;
  }

  /** The same, for one who opens files anyway and looks at them then. */
  *unread(fresh: number, old: number): Generator<Difference | NewFile, void, undefined> {
    this.#unread = true;
    yield* this.#differences(fresh, old);
  }

  *#differences(fresh: number, old: number): Walk {
    const sides = this.#sides({ fd: fresh, name: "" }, { fd: old, name: "" });
    if (sides === undefined) return;
    const { now, before } = sides;
    if (this.#differ(now, before)) yield { kind: "modified", path: "", at: now.at, stat: now.stat };
    const root: Frame = { parent: undefined, pending: undefined };
    const { merged } = this.#dialect;
    const scope = now.stat.ino === before.stat.ino ? this.#scope : undefined;
    yield* this.#directory({ path: "", fresh: now.at, old: before.at, merged, scope }, root);
  }

  #sides(fresh: Location, old: Location): { readonly now: Side; readonly before: Side } | undefined {
    const stat = findStat(fresh.fd, fresh.name);
    const oldStat = findStat(old.fd, old.name);
    if (stat === undefined || oldStat === undefined) return undefined;
    return { now: { at: fresh, stat }, before: { at: old, stat: oldStat } };
  }

  *#directory(pair: Pair, frame: Frame): Walk {
    const fresh = reopen(pair.fresh);
    if (fresh === undefined) return;
    let old: number | undefined;
    try {
      old = pair.old === undefined ? undefined : reopen(pair.old);
      const marks = this.#dialect.marks({ fd: fresh, name: "" });
      const merged = pair.merged && !marks.opaque;
      const before = new Set(old === undefined ? [] : namesToLookAt(old, pair.scope));
      // An empty file may stand for a deletion.
      const files = this.#unread && old === undefined && !marks.xattrWhiteouts ? new Set<ByteString>() : undefined;
      const names = namesToLookAt(fresh, pair.scope, files).sort();
      const looks = names.values().flatMap((name) => this.#look(fresh, name, { marks, files }));
      // Nothing is deleted from a directory that is new, so that it need not be looked through before its first entry.
      const all = old === undefined ? undefined : [...looks];
      for (const name of all === undefined ? [] : goneOf(all, before, merged))
        yield* say(frame, { kind: "deleted", path: joinPath(pair.path, name) });
      for (const { name, stat, whiteout } of all ?? looks) {
        if (whiteout) continue;
        const path = joinPath(pair.path, name);
        if (stat === undefined) {
          yield* say(frame, { kind: "new file", path, at: { fd: fresh, name } });
          continue;
        }
        const now = { at: { fd: fresh, name }, stat };
        this.#dialect.check(now.at, stat, path);
        const oldStat = old !== undefined && before.has(name) ? findStat(old, name) : undefined;
        if (old === undefined || oldStat === undefined) yield* this.#added({ path, now, merged }, frame);
        else {
          const was = { at: { fd: old, name }, stat: oldStat };
          const scope = scopeBelow(pair.scope, now, was);
          if (scope !== "same") yield* this.#both({ path, now, merged, scope }, was, frame);
        }
      }
    } finally {
      closeRead(fresh);
      if (old !== undefined) closeRead(old);
    }
  }

  #look(fd: number, name: ByteString, { marks, files }: Looking): readonly Look[] {
    if (files?.has(name) === true) return [{ name, stat: undefined, whiteout: false }];
    const stat = findStat(fd, name);
    if (stat === undefined) return [];
    return [{ name, stat, whiteout: this.#dialect.isWhiteout({ fd, name }, stat, marks) }];
  }

  *#added({ path, now, merged }: Entry, frame: Frame): Walk {
    yield* say(frame, { kind: "added", path, at: now.at, stat: now.stat });
    if (!isDirectory(now.stat.mode)) return;
    yield* this.#directory({ path, fresh: now.at, old: undefined, merged }, { parent: frame, pending: undefined });
  }

  *#both({ path, now, merged, scope }: Entry, before: Side, frame: Frame): Walk {
    const difference: Difference = { kind: "modified", path, at: now.at, stat: now.stat };
    const changed = this.#differ(now, before);
    if (changed) yield* say(frame, difference);
    if (!isDirectory(now.stat.mode)) return;
    const old = isDirectory(before.stat.mode) ? before.at : undefined;
    const below: Frame = { parent: frame, pending: changed ? undefined : difference };
    yield* this.#directory({ path, fresh: now.at, old, merged, scope }, below);
  }

  #differ(now: Side, before: Side): boolean {
    const [a, b] = [now.stat, before.stat];
    if (a.mode !== b.mode || a.uid !== b.uid || a.gid !== b.gid) return true;
    if (a.rdevMajor !== b.rdevMajor || a.rdevMinor !== b.rdevMinor) return true;
    if (!isDirectory(a.mode) && this.#contentDiffers(now, before)) return true;
    return !sameXattrs(readXattrs(now.at, this.#dialect.newXattrs), readXattrs(before.at, this.#dialect.oldXattrs));
  }

  #contentDiffers(now: Side, before: Side): boolean {
    const [a, b] = [now.stat, before.stat];
    if (a.size !== b.size || a.mtimeSec !== b.mtimeSec || a.mtimeNsec !== b.mtimeNsec) return true;
    if (isSymlink(a.mode)) return linkTarget(now.at) !== linkTarget(before.at);
    if (this.#links && (this.#dialect.compareContents ? a.nlink > 1 : a.nlink !== b.nlink)) return true;
    return this.#dialect.compareContents && isFile(a.mode) && a.size > 0 && !sameContent(now.at, before.at);
  }
}

/** Passes on a difference, after the directories that lead to it. */
function* say(frame: Frame, difference: Difference | NewFile): Walk {
  const leading: Difference[] = [];
  for (let at: Frame | undefined = frame; at !== undefined; at = at.parent) {
    if (at.pending !== undefined) leading.push(at.pending);
    at.pending = undefined;
  }
  yield* leading.reverse();
  yield difference;
}

/** Everything in a directory, or where its names are known to be the same, those that lead to candidates. */
function namesToLookAt(fd: number, scope: PathScope | undefined, files?: Set<ByteString>): ByteString[] {
  if (scope === undefined || scope.listed) return readNames(fd, files);
  return [...scope.below.keys()].filter((name) => findStat(fd, name) !== undefined);
}

/** What may differ in an entry that both sides have: nothing, what the scope says, or, where it is another inode, anything. */
function scopeBelow(scope: PathScope | undefined, now: Side, before: Side): PathScope | "same" | undefined {
  if (scope === undefined || now.stat.ino !== before.stat.ino) return undefined;
  return scope.below.get(now.at.name) ?? "same";
}

/** Names that the layers below have, and the new tree has not: in a merged directory those that a whiteout stands for. */
function goneOf(all: readonly Look[], before: ReadonlySet<ByteString>, merged: boolean): ByteString[] {
  if (merged) return all.filter(({ name, whiteout }) => whiteout && before.has(name)).map(({ name }) => name);
  const here = new Set(all.filter(({ whiteout }) => !whiteout).map(({ name }) => name));
  return [...before].filter((name) => !here.has(name)).sort();
}

/** Opens a directory for reading; undefined when it went meanwhile. */
function reopen(at: Location): number | undefined {
  try {
    return openQuietly(at.fd, at.name === "" ? "." : nameOf(at.name), O.RDONLY | O.DIRECTORY | O.NOFOLLOW);
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
}
