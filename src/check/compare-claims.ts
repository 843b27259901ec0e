/**
 * Compares what a layer's tar claims with the layer's tree: whether each name is there, its type, mode, owner, device
 * number, link target and the extended attributes that the tar names; and the bytes of its files. Times are not
 * compared, nor attributes of which the tar says nothing. Paths are resolved inside the root by the kernel. For workers.
 */
import { constants, readlinkSync } from "node:fs";
import { type ByteString, bytesOf, byteText, entryPath, joinPath, nameOf, splitPath } from "../archive/bytes.ts";
import { fileType, findStat, isDirectory, isFile } from "../archive/root-tree.ts";
import { systemCode } from "../base/errors.ts";
import { AT_FDCWD, closeFd, type FileStat, getXattr, O, openat2, RESOLVE, readlinkat } from "../host/sys.ts";
import type { Claim, TarClaims } from "./tar-claims.ts";

/** A path that is not as the tar says. */
export type Deviation = {
  readonly kind: "missing" | "attributes" | "content";
  readonly path: string;
  readonly detail: string;
};

export type Comparison = {
  readonly deviations: readonly Deviation[];
  /** Bytes of the files that the layer made, each inode once. */
  readonly size: number;
};

const types: Readonly<Record<Exclude<Claim["type"], "link">, number>> = {
  file: constants.S_IFREG,
  symlink: constants.S_IFLNK,
  char: constants.S_IFCHR,
  block: constants.S_IFBLK,
  directory: constants.S_IFDIR,
  fifo: constants.S_IFIFO,
};

/** Resolves directories of a tree to open descriptors and real paths. */
export class ClaimedTree implements Disposable {
  readonly #rootFd: number;
  readonly #rootPath: string;
  readonly #real = new Map<ByteString, ByteString | undefined>();
  readonly #links = new Map<ByteString, boolean>();

  /** `root` is a path of our own choice. */
  constructor(root: string) {
    this.#rootFd = openat2(AT_FDCWD, root, { flags: O.RDONLY | O.DIRECTORY });
    this.#rootPath = readlinkSync(`/proc/self/fd/${this.#rootFd}`);
  }

  /** The real path of `clean`: its parent resolved, its last name as it is; undefined when nothing leads there. */
  realPath(clean: ByteString): ByteString | undefined {
    if (clean === "") return "";
    const { parent, name } = splitPath(clean);
    const real = this.realDirectory(parent);
    return real === undefined ? undefined : joinPath(real, name);
  }

  /** Whether a symlink, also one that leads nowhere, stands on the way to `path` or there. */
  passesLink(path: ByteString): boolean {
    if (path === "") return false;
    const known = this.#links.get(path);
    if (known !== undefined) return known;
    const { parent, name } = splitPath(path);
    const passes = this.passesLink(parent) || this.#isLink(parent, name);
    this.#links.set(path, passes);
    return passes;
  }

  #isLink(parent: ByteString, name: ByteString): boolean {
    if (this.realDirectory(parent) === undefined) return false;
    const stat = this.at(joinPath(parent, name), findStat);
    return stat !== undefined && fileType(stat.mode) === constants.S_IFLNK;
  }

  /** Calls `use` with the parent directory of a real path. */
  at<T>(real: ByteString, use: (fd: number, name: ByteString) => T): T {
    if (real === "") return use(this.#rootFd, "");
    const { parent, name } = splitPath(real);
    const fd = this.#open(parent);
    try {
      return use(fd, name);
    } finally {
      closeFd(fd);
    }
  }

  [Symbol.dispose](): void {
    closeFd(this.#rootFd);
  }

  /** The real path of directory `path`; undefined when no directory is there. */
  realDirectory(path: ByteString): ByteString | undefined {
    if (path === "") return "";
    if (this.#real.has(path)) return this.#real.get(path);
    const real = this.#resolve(path);
    this.#real.set(path, real);
    return real;
  }

  #resolve(path: ByteString): ByteString | undefined {
    let fd: number;
    try {
      fd = this.#open(path);
    } catch (error) {
      if (["ENOENT", "ENOTDIR", "ELOOP"].includes(systemCode(error) ?? "")) return undefined;
      throw error;
    }
    try {
      const full = readlinkSync(`/proc/self/fd/${fd}`, { encoding: "buffer" });
      return bytesOf(full.subarray(Buffer.byteLength(this.#rootPath) + 1));
    } finally {
      closeFd(fd);
    }
  }

  #open(path: ByteString): number {
    const resolve = RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS;
    return openat2(this.#rootFd, path === "" ? "." : nameOf(path), { flags: O.PATH | O.DIRECTORY, resolve });
  }
}

/**
 * Whether entries were written through a symlink, of the tar or of the tree below. Where they went depends on what the
 * link was at that moment, and nothing is said of the tree then. Builders write the real paths.
 */
export function writesThroughLinks(below: ClaimedTree | undefined, claims: TarClaims): boolean {
  if (claims.throughLink) return true;
  if (below === undefined) return false;
  const written = claims.all.map(({ clean }) => splitPath(clean).parent);
  const hidden = claims.hidden.map(({ clean, what }) => (what === "inside" ? clean : splitPath(clean).parent));
  const linked = claims.all.map(({ type, link }) => (type === "link" ? splitPath(entryPath(link)).parent : ""));
  return [...new Set([...written, ...hidden, ...linked])].some((path) => below.passesLink(path));
}

/** Compares every claim that stands. Deviations are in order of their paths. */
export function compareClaims(tree: ClaimedTree, claims: TarClaims): Comparison {
  const last = new Map<ByteString, Claim>();
  const order = new Map(claims.all.map((claim, index) => [claim, index]));
  const deviations: Deviation[] = [];
  for (const claim of claims.standing()) {
    const real = tree.realPath(claim.clean);
    if (real === undefined) deviations.push(missing(claim));
    const other = real === undefined ? undefined : last.get(real);
    if (real !== undefined && (other === undefined || (order.get(other) ?? 0) < (order.get(claim) ?? 0)))
      last.set(real, claim);
  }
  const above = lastBelow(tree, claims);
  const inodes = new Set<string>();
  let size = 0;
  for (const [real, claim] of last) {
    // Something was put below it later, so a directory was made in its place.
    if (claim.type !== "directory" && (above.get(real) ?? -1) > (order.get(claim) ?? 0)) continue;
    const stat = tree.at(real, (fd, name) => compareOne(fd, name, { claim, deviations }));
    if (stat === undefined || !claim.counted || !isFile(stat.mode)) continue;
    const inode = `${stat.dev}:${stat.ino}`;
    if (!inodes.has(inode)) size += stat.size;
    inodes.add(inode);
  }
  return { deviations: deviations.sort((a, b) => (a.path < b.path ? -1 : 1)), size };
}

/** Real path of a directory -> the number of the last claim below it. */
function lastBelow(tree: ClaimedTree, claims: TarClaims): ReadonlyMap<ByteString, number> {
  const found = new Map<ByteString, number>();
  for (const [index, { clean }] of claims.all.entries())
    for (let at = tree.realPath(clean) ?? clean; at !== ""; ) {
      at = splitPath(at).parent;
      found.set(at, index);
    }
  return found;
}

const missing = (claim: Claim): Deviation => ({
  kind: "missing",
  path: `/${byteText(claim.clean)}`,
  detail: `the ${claim.type} is gone`,
});

type Subject = { readonly claim: Claim; readonly deviations: Deviation[] };

function compareOne(fd: number, name: ByteString, { claim, deviations }: Subject): FileStat | undefined {
  const stat = findStat(fd, name);
  if (stat === undefined) {
    deviations.push(missing(claim));
    return undefined;
  }
  const differences = [...differencesOf(fd, name, { claim, stat })];
  if (differences.length > 0)
    deviations.push({ kind: "attributes", path: `/${byteText(claim.clean)}`, detail: differences.join(", ") });
  // A file without content has no payload whose checksum could tell.
  if (claim.type === "file" && claim.size === 0 && isFile(stat.mode) && stat.size > 0)
    deviations.push({ kind: "content", path: `/${byteText(claim.clean)}`, detail: `it has ${stat.size} bytes` });
  return stat;
}

const octal = (mode: number): string => (mode & 0o7777).toString(8).padStart(4, "0");

function* differencesOf(
  fd: number,
  name: ByteString,
  { claim, stat }: { readonly claim: Claim; readonly stat: FileStat },
): Generator<string, void, undefined> {
  if (claim.type === "link") {
    // It has whatever its target has.
    if (isDirectory(stat.mode)) yield "a directory stands where a hard link was";
    return;
  }
  if (fileType(stat.mode) !== types[claim.type]) {
    yield `it is no ${claim.type} any more`;
    return;
  }
  if (claim.type !== "symlink" && (stat.mode & 0o7777) !== claim.mode)
    yield `mode ${octal(stat.mode)} instead of ${octal(claim.mode)}`;
  if (stat.uid !== claim.uid || stat.gid !== claim.gid)
    yield `owner ${stat.uid}:${stat.gid} instead of ${claim.uid}:${claim.gid}`;
  if (claim.type === "symlink" && bytesOf(readlinkat(fd, nameOf(name))) !== claim.link) yield "another link target";
  if (claim.type === "char" || claim.type === "block") {
    if (stat.rdevMajor !== claim.major || stat.rdevMinor !== claim.minor)
      yield `device ${stat.rdevMajor}:${stat.rdevMinor} instead of ${claim.major}:${claim.minor}`;
  }
  yield* xattrDifferences(fd, name, claim);
}

function* xattrDifferences(fd: number, name: ByteString, claim: Claim): Generator<string, void, undefined> {
  const plain = claim.type === "file" || claim.type === "directory";
  for (const [attribute, value] of claim.xattrs) {
    // The kernel does not keep these elsewhere.
    if (!plain && attribute.startsWith("user.")) continue;
    const found = getXattr(fd, nameOf(name), attribute);
    if (found === undefined) yield `attribute ${attribute} is gone`;
    else if (!found.equals(value)) yield `attribute ${attribute} has another value`;
  }
}
