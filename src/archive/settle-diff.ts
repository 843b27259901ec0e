/**
 * Puts a diff that was unpacked without its parent over one: first the facts (diff-facts.ts) are held against the tree
 * below, reading only; if the diff means there what its tar means, the few directories whose attributes come from below
 * (implied ones, attributes that an entry does not name) are given them, through the merged tree. Else nothing is
 * changed and the answer says why: then the tar must be applied to the tree itself. For workers.
 *
 * A lower directory is *merged* with the diff's when both show in it, in the *shadow* where the diff hides it.
 */
import { systemCode } from "../base/errors.ts";
import {
  AT_FDCWD,
  closeFd,
  fchmodat,
  fchownat,
  getXattr,
  listXattrs,
  O,
  openat2,
  RESOLVE,
  setXattr,
  statat,
  utimensat,
} from "../host/sys.ts";
import { type ByteString, nameOf } from "./bytes.ts";
import { type DiffFacts, decodeFacts, fact, parentOf } from "./diff-facts.ts";
import { findStat } from "./root-tree.ts";

export type SettleArgument = {
  readonly facts: Uint8Array;
  /** A view of the tree below; undefined where nothing is. */
  readonly below: string | undefined;
  /** The merged tree, writable. */
  readonly root: string;
};

/** `corrected`: how many directories got attributes from below, but for the root. */
export type Settled =
  | { readonly fits: true; readonly corrected: number }
  | { readonly fits: false; readonly why: string };

/** Throws data_loss when the facts are damaged. */
export function settleDiff({ facts, below, root }: SettleArgument): Settled {
  const decoded = decodeFacts(facts);
  if (below === undefined) return overNothing(decoded);
  const lower = openTop(below);
  try {
    const fitting = new Fitting(decoded, lower);
    const why = fitting.misfit();
    if (why !== undefined) return { fits: false, why };
    const merged = openTop(root);
    try {
      return { fits: true, corrected: fitting.correct(merged) };
    } finally {
      closeFd(merged);
    }
  } finally {
    closeFd(lower);
  }
}

const openTop = (path: string): number => openat2(AT_FDCWD, path, { flags: O.RDONLY | O.DIRECTORY });

function overNothing({ directories, whiteouts }: DiffFacts): Settled {
  const marked = directories.values().some((flags) => (flags & fact.marked) !== 0);
  if (marked || whiteouts.length > 0) return { fits: false, why: "it hides something where nothing is" };
  return { fits: true, corrected: 0 };
}

type Standing = "merged" | "shadow" | "free";

const acls = ["system.posix_acl_default", "system.posix_acl_access"];
const straight = RESOLVE.BENEATH | RESOLVE.NO_SYMLINKS;

class Fitting {
  readonly #facts: DiffFacts;
  readonly #lower: number;
  readonly #standing = new Map<ByteString, Standing>([["", "merged"]]);
  /** Merged directories in which the layer changes which names there are. */
  readonly #changed = new Set<ByteString>();

  constructor(facts: DiffFacts, lower: number) {
    this.#facts = facts;
    this.#lower = lower;
  }

  /** Why the diff does not mean here what its tar does; undefined when it does. */
  misfit(): string | undefined {
    for (const [path, flags] of this.#facts.directories) {
      if ((flags & fact.touched) !== 0) this.#changed.add(path);
      const why = path === "" ? refusedAcl(this.#lower) : this.#misfitOf(path, flags);
      if (why !== undefined) return `${path}: ${why}`;
    }
    for (const path of this.#facts.whiteouts) {
      const parent = parentOf(path);
      if (this.#standing.get(parent) !== "merged" || this.#isShut(parent))
        return `${path}: a whiteout where no directory is below`;
      if (this.#exists(path)) this.#changed.add(parent);
    }
    return undefined;
  }

  /** Gives directories what they have from below; returns how many but the root. */
  correct(merged: number): number {
    let corrected = 0;
    for (const [path, flags] of this.#facts.directories) {
      if (this.#standing.get(path) !== "merged" || (flags & (fact.gone | fact.closed)) !== 0) continue;
      const source = this.#open(path);
      try {
        if (source === undefined) continue;
        const how = { described: (flags & fact.described) !== 0, changed: this.#changed.has(path) };
        if (takeOver(source, { fd: merged, path }, how) && path !== "") corrected++;
      } finally {
        if (source !== undefined) closeFd(source);
      }
    }
    return corrected;
  }

  #misfitOf(path: ByteString, flags: number): string | undefined {
    if ((flags & (fact.implied | fact.marked)) !== 0 && this.#isLink(path)) return "a symlink stands there below";
    if ((flags & fact.gone) !== 0) return undefined;
    const parent = parentOf(path);
    const above = this.#standing.get(parent) ?? "free";
    const own = above === "free" ? undefined : this.#open(path);
    try {
      if (own === undefined) {
        this.#standing.set(path, "free");
        this.#changed.add(parent);
        return (flags & fact.marked) === 0 ? undefined : "it hides something where nothing is";
      }
      const hidden = above === "shadow" || this.#isShut(parent) || (flags & fact.closed) !== 0;
      this.#standing.set(path, hidden ? "shadow" : "merged");
      // Whether its time is older than the layer would depend on what went from it.
      if ((flags & fact.described) === 0 && (hidden || (flags & fact.opaque) !== 0)) return "what it hides is implied";
      return hidden ? undefined : refusedAcl(own);
    } finally {
      if (own !== undefined) closeFd(own);
    }
  }

  #isShut(path: ByteString): boolean {
    return ((this.#facts.directories.get(path) ?? 0) & (fact.closed | fact.opaque)) !== 0;
  }

  /** The lower directory at a path without symlinks. */
  #open(path: ByteString): number | undefined {
    try {
      const flags = O.RDONLY | O.DIRECTORY | O.NOFOLLOW;
      return openat2(this.#lower, path === "" ? "." : nameOf(path), { flags, resolve: straight });
    } catch (error) {
      if (isAbsence(error)) return undefined;
      throw error;
    }
  }

  #isLink(path: ByteString): boolean {
    try {
      closeFd(openat2(this.#lower, nameOf(path), { flags: O.PATH, resolve: straight }));
      return false;
    } catch (error) {
      if (systemCode(error) === "ELOOP") return true;
      if (isAbsence(error)) return false;
      throw error;
    }
  }

  #exists(path: ByteString): boolean {
    const parent = parentOf(path);
    const fd = this.#open(parent);
    if (fd === undefined) return false;
    try {
      return findStat(fd, path.slice(parent === "" ? 0 : parent.length + 1)) !== undefined;
    } finally {
      closeFd(fd);
    }
  }
}

/** New names take an access list over from their directory. */
const refusedAcl = (fd: number): string | undefined =>
  acls.some((name) => getXattr(fd, "", name) !== undefined) ? "an access list is below" : undefined;

const isAbsence = (error: unknown): boolean => ["ENOENT", "ENOTDIR", "ELOOP"].includes(systemCode(error) ?? "");

type How = { readonly described: boolean; readonly changed: boolean };

/** True when something had to be changed. */
function takeOver(source: number, at: { readonly fd: number; readonly path: ByteString }, how: How): boolean {
  const flags = O.RDONLY | O.DIRECTORY | O.NOFOLLOW;
  const target = openat2(at.fd, at.path === "" ? "." : nameOf(at.path), { flags, resolve: straight });
  try {
    const own = new Set(listXattrs(target, ""));
    const missing = listXattrs(source, "").filter((name) => !own.has(name) && name !== "security.selinux");
    const [from, to] = [statat(source, ""), statat(target, "")];
    const sameTime = from.mtimeSec === to.mtimeSec && from.mtimeNsec === to.mtimeNsec;
    const takesOwner = !how.described && (from.uid !== to.uid || from.gid !== to.gid || from.mode !== to.mode);
    const takesTime = !how.described && !how.changed && !sameTime;
    if (missing.length === 0 && !takesOwner && !takesTime) return false;
    if (takesOwner) fchownat(target, "", from.uid, from.gid);
    for (const name of missing) setXattr(target, "", name, getXattr(source, "", name) ?? Buffer.alloc(0));
    if (takesOwner) fchmodat(target, "", from.mode & 0o7777);
    const { mtimeSec, mtimeNsec } = takesTime ? from : to;
    utimensat(target, "", undefined, BigInt(mtimeSec) * 1_000_000_000n + BigInt(mtimeNsec));
    return true;
  } finally {
    closeFd(target);
  }
}
