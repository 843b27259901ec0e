/**
 * Puts one tar entry into a tree: creates it in an open directory and gives it owner, attributes, mode and times, in
 * that order (a change of owner clears setuid bits and file capabilities). Directory over directory changes attributes
 * only; anything else that stands there is removed first. What an archive says is checked, what it names is resolved
 * inside the root. Used for layers and for plain archives; their differences are options.
 */
import { constants, fchmodSync, fchownSync } from "node:fs";
import { crc32 } from "node:zlib";
import { EngineError, systemCode } from "../base/errors.ts";
import {
  closeFd,
  type FileStat,
  fchmodat,
  fchownat,
  getXattr,
  linkat,
  mkdirat,
  mknodat,
  O,
  openat2,
  removeXattr,
  setXattr,
  symlinkat,
  utimensat,
} from "../host/sys.ts";
import { fileCreationMask } from "../host/umask.ts";
import { type ByteString, entryPath, joinPath, nameOf, quoted, splitPath } from "./bytes.ts";
import { linkByCopy } from "./kept-attributes.ts";
import type { TarEntry, TarReader } from "./read-tar.ts";
import { writeAll } from "./recipe-writer.ts";
import { type Directory, findStat, isDirectory, type RootTree } from "./root-tree.ts";

export type PlaceOptions = {
  /** Clean real path inside the root where the archive's own root is. */
  readonly base?: ByteString;
  readonly escapeXattrs?: { readonly from: string; readonly to: string };
  /** Prefixes of attributes that no entry may have. */
  readonly refusedXattrs?: readonly string[];
  /** Whether the hard link target at a real path must be copied before it gets another name (kept-attributes.ts). */
  readonly copiesTarget?: (path: ByteString) => boolean;
  /** Everything gets this owner. */
  readonly owner?: { readonly uid: number; readonly gid: number };
  /** Writes the content of a file instead of {@link placeEntry} itself. */
  readonly writeContent?: (fd: number, entry: TarEntry) => Promise<void>;
  /** Told before `name` is removed for an entry; may throw. */
  readonly onReplace?: (path: ByteString, existing: FileStat, entry: TarEntry) => void;
};

/** What came to be. */
export type Placed = {
  readonly path: ByteString;
  /** Bytes and checksum of a file's content. */
  readonly size: number;
  readonly crc: number;
  /** A directory that was there before. */
  readonly kept: boolean;
  /** A hard link's real target. */
  readonly linkedTo: ByteString | undefined;
};

/** Where an entry's content comes from. */
export type EntryContent = Pick<TarReader, "read">;

type Target = { readonly tree: RootTree; readonly directory: Directory; readonly name: ByteString };

const userAttributes = "user.";
const lastTime = 2n ** 63n;

/** Entries of the type that has content are read to their end. `path` is the entry's clean path in the root. */
export async function placeEntry(
  tree: RootTree,
  entry: TarEntry,
  ...[path, reader, options]: [ByteString, EntryContent, PlaceOptions]
): Promise<Placed> {
  if (entry.type !== "file") return placeNode(tree, entry, path, options);
  try {
    using file = beginFile(tree, entry, path, options);
    await options.writeContent?.(file.fd, entry);
    const crc = await pour(reader, file);
    file.finish();
    return { path: file.path, size: entry.size, crc, kept: false, linkedTo: undefined };
  } catch (error) {
    throw explained(error, entry);
  }
}

/** The same for an entry that has no content. */
export function placeNode(tree: RootTree, entry: TarEntry, path: ByteString, options: PlaceOptions): Placed {
  try {
    const target = targetOf(tree, path);
    return { path: realPath(target), size: 0, crc: 0, ...placeOther(target, entry, options) };
  } catch (error) {
    throw explained(error, entry);
  }
}

/** Begins a file: its content is written, then it is finished. `path` is clean. */
export function beginFile(tree: RootTree, entry: TarEntry, path: ByteString, options: PlaceOptions): NewFile {
  return new NewFile(targetOf(tree, path), entry, options);
}

function targetOf(tree: RootTree, path: ByteString): Target {
  const { parent, name } = splitPath(path);
  return { tree, directory: tree.make(parent), name };
}

const realPath = ({ directory, name }: Target): ByteString => joinPath(directory.path, name);

/** Gives an existing directory the attributes of an entry, but for its times. */
export function applyAttributes(fd: number, name: ByteString, entry: TarEntry, options: PlaceOptions): void {
  const owner = options.owner ?? entry;
  fchownat(fd, nameOf(name), owner.uid, owner.gid);
  setXattrs(fd, name, entry, options);
  fchmodat(fd, nameOf(name), entry.mode);
}

/** The entry's modification time as the disk can keep it. */
export const boundTime = (time: bigint): bigint => (time < 0n || time >= lastTime ? 0n : time);

/** A name, or an extended attribute, that is longer than any filesystem takes. */
const entrysFault: ReadonlySet<string> = new Set(["ENAMETOOLONG", "E2BIG"]);

/** An error that names the entry; lack of space keeps its meaning. */
export function explained(error: unknown, entry: TarEntry): unknown {
  if (error instanceof EngineError) return error;
  const code = systemCode(error);
  if (code === undefined) return error;
  const message = `cannot unpack ${quoted(entry.path)}: ${error instanceof Error ? error.message : code}`;
  const full = code === "ENOSPC" || code === "EDQUOT";
  return new EngineError(full ? "no_space" : entrysFault.has(code) ? "invalid_argument" : "internal", message, {
    cause: error,
  });
}

/** Takes a file's content, piece by piece, and then everything else that its entry says. Disposing closes it. */
export type OpenedFile = Disposable & {
  /** Real path in the root. */
  readonly path: ByteString;
  write(piece: Uint8Array): void;
  finish(): void;
};

/** Reads an entry's content to its end, into a file. Returns its checksum. */
export async function pour(content: EntryContent, file: Pick<OpenedFile, "write">): Promise<number> {
  let crc = 0;
  for (let piece = await content.read(); piece !== undefined; piece = await content.read()) {
    crc = crc32(piece, crc);
    file.write(piece);
  }
  return crc;
}

/** `mode` as its creation gave it. */
type Created = { readonly fd: number; readonly directory: Directory; readonly mode: number | undefined };

/** Gives a file that has its content everything else that its entry says. */
function finishFile(file: Created, entry: TarEntry, options: PlaceOptions): void {
  const { fd, directory, mode } = file;
  ownFile(file, entry, options);
  dropInheritedAcl(directory, fd, "");
  setXattrs(fd, "", entry, options);
  if (mode === undefined) fchmodSync(fd, entry.mode);
  setTime(fd, "", entry);
}

function ownFile({ fd, directory }: Created, entry: TarEntry, options: PlaceOptions): void {
  const owner = options.owner ?? entry;
  // The engine is root, so what it makes is root's already.
  if (owner.uid !== 0 || owner.gid !== 0 || !directory.givesRootGroup) fchownSync(fd, owner.uid, owner.gid);
}

/** A file that was created for an entry; it has the entry's attributes once it is finished. */
export class NewFile implements OpenedFile {
  readonly path: ByteString;
  readonly #created: Created;
  readonly #entry: TarEntry;
  readonly #options: PlaceOptions;

  constructor(target: Target, entry: TarEntry, options: PlaceOptions) {
    const mode = modeAtCreation(target.directory, entry);
    this.path = realPath(target);
    const fd = createFile(target, entry, { ...options, mode: mode ?? 0o600 });
    this.#created = { fd, directory: target.directory, mode };
    this.#entry = entry;
    this.#options = options;
  }

  get fd(): number {
    return this.#created.fd;
  }

  /** Its creation gave it its mode, and it has no attributes that a write would take away: what follows may be another's. */
  get isPlain(): boolean {
    return this.#created.mode !== undefined;
  }

  write(piece: Uint8Array): void {
    writeAll(this.fd, piece);
  }

  own(): void {
    ownFile(this.#created, this.#entry, this.#options);
  }

  finish(): void {
    finishFile(this.#created, this.#entry, this.#options);
  }

  [Symbol.dispose](): void {
    closeFd(this.fd);
  }
}

/** The mode of a file whose creation can give it already, so that no call must: most files are such. */
function modeAtCreation(directory: Directory, { mode, xattrs }: TarEntry): number | undefined {
  const plain = xattrs.size === 0 && !directory.handsDownAcl && (mode & (0o7000 | fileCreationMask())) === 0;
  return plain ? mode : undefined;
}

function createFile(target: Target, entry: TarEntry, options: PlaceOptions & { readonly mode: number }): number {
  const how = { flags: O.WRONLY | O.CREAT | O.EXCL | O.NOFOLLOW, mode: options.mode };
  try {
    return openat2(target.directory.fd, nameOf(target.name), how);
  } catch (error) {
    if (systemCode(error) !== "EEXIST") throw error;
  }
  const existing = findStat(target.directory.fd, target.name);
  if (existing !== undefined) replace(target, existing, entry, options);
  return openat2(directoryAgain(target).fd, nameOf(target.name), how);
}

/** Removal may have closed cached directories. */
const directoryAgain = (target: Target): Directory => target.tree.make(target.directory.path);

function replace(target: Target, existing: FileStat, entry: TarEntry, options: PlaceOptions): void {
  options.onReplace?.(joinPath(target.directory.path, target.name), existing, entry);
  target.tree.remove(target.directory, target.name, existing);
}

function placeOther(target: Target, entry: TarEntry, options: PlaceOptions): Pick<Placed, "kept" | "linkedTo"> {
  const existing = findStat(target.directory.fd, target.name);
  if (entry.type === "link") return { kept: false, linkedTo: placeLink(target, entry, { options, existing }) };
  const kept = existing !== undefined && isDirectory(existing.mode) && entry.type === "directory";
  if (existing !== undefined && !kept) replace(target, existing, entry, options);
  const directory = directoryAgain(target);
  if (!kept) create(directory, target.name, entry);
  if (!kept) dropInheritedAcl(directory, directory.fd, target.name);
  applyAttributes(directory.fd, target.name, entry, options);
  setTime(directory.fd, target.name, entry);
  if (kept) target.tree.reopen(joinPath(directory.path, target.name));
  return { kept, linkedTo: undefined };
}

function create(directory: Directory, name: ByteString, entry: TarEntry): void {
  const at = nameOf(name);
  if (entry.type === "directory") mkdirat(directory.fd, at, 0o700);
  else if (entry.type === "symlink") symlinkat(symlinkTarget(entry), directory.fd, at);
  else {
    const type = { fifo: constants.S_IFIFO, char: constants.S_IFCHR, block: constants.S_IFBLK }[deviceType(entry)];
    if (entry.type !== "fifo") checkDevice(entry);
    const [major, minor] = entry.type === "fifo" ? [0, 0] : [entry.major, entry.minor];
    mknodat(directory.fd, at, type | 0o600, major, minor);
  }
}

function deviceType(entry: TarEntry): "fifo" | "char" | "block" {
  if (entry.type === "fifo" || entry.type === "char" || entry.type === "block") return entry.type;
  throw new EngineError("internal", `${quoted(entry.path)}: ${entry.type} is no device`);
}

function symlinkTarget(entry: TarEntry): string | Buffer {
  if (entry.link !== "" && !entry.link.includes("\0")) return nameOf(entry.link);
  throw new EngineError("invalid_argument", `symlink ${quoted(entry.path)} says nothing or holds a NUL`);
}

/** The kernel keeps 12 bits of major and 20 of minor; overlayfs takes the character device 0:0 for a whiteout. */
function checkDevice(entry: TarEntry): void {
  const { major, minor } = entry;
  if (major < 0 || major > 0xfff || minor < 0 || minor > 0xfffff)
    throw new EngineError("invalid_argument", `device ${quoted(entry.path)} has the number ${major}:${minor}`);
  if (entry.type === "char" && major === 0 && minor === 0)
    throw new EngineError(
      "invalid_argument",
      `device ${quoted(entry.path)} is the character device 0:0, which overlayfs takes for a whiteout`,
    );
}

/** A hard link inside the root. Linking a name to itself leaves it alone. */
function placeLink(
  target: Target,
  entry: TarEntry,
  { options, existing }: { readonly options: PlaceOptions; readonly existing: FileStat | undefined },
): ByteString {
  const to = splitPath(joinPath(options.base ?? "", entryPath(entry.link, "hard link target")));
  const source = to.name === "" ? undefined : target.tree.find(to.parent);
  const stat = source === undefined ? undefined : findStat(source.fd, to.name);
  if (source === undefined || stat === undefined)
    throw new EngineError(
      "invalid_argument",
      `hard link ${quoted(entry.path)} names ${quoted(entry.link)}, which does not exist in the archive's root`,
    );
  if (isDirectory(stat.mode))
    throw new EngineError(
      "invalid_argument",
      `hard link ${quoted(entry.path)} names the directory ${quoted(entry.link)}`,
    );
  const real = joinPath(source.path, to.name);
  const own = joinPath(target.directory.path, target.name);
  if (real === own) return real;
  if (existing !== undefined) {
    if (real.startsWith(`${own}/`))
      throw new EngineError("invalid_argument", `hard link ${quoted(entry.path)} would replace its own target`);
    replace(target, existing, entry, options);
  }
  // By real paths: removal may have closed both directories, and opening one may close the other only when 64 are open.
  const from = target.tree.make(source.path);
  const { fd } = directoryAgain(target);
  if (options.copiesTarget?.(real) === true) linkByCopy(from.fd, to.name, { fd, name: target.name });
  else linkat(from.fd, nameOf(to.name), fd, nameOf(target.name));
  return real;
}

/** An access list that the directory handed down belongs to no entry. */
function dropInheritedAcl(directory: Directory, fd: number, name: ByteString): void {
  if (!directory.handsDownAcl) return;
  for (const attribute of ["system.posix_acl_access", "system.posix_acl_default"])
    if (getXattr(fd, nameOf(name), attribute) !== undefined) removeXattr(fd, nameOf(name), attribute);
}

/** The name under which an attribute is kept. */
export function storedXattr(attribute: string, options: PlaceOptions): string {
  const rule = options.escapeXattrs;
  return rule !== undefined && attribute.startsWith(rule.from)
    ? rule.to + attribute.slice(rule.from.length)
    : attribute;
}

function setXattrs(fd: number, name: ByteString, entry: TarEntry, options: PlaceOptions): void {
  for (const [attribute, value] of entry.xattrs) {
    if (options.refusedXattrs?.some((prefix) => attribute.startsWith(prefix)) === true)
      throw new EngineError(
        "unsupported",
        `cannot set the attribute ${attribute} on ${quoted(entry.path)}: the storage driver keeps it for itself`,
      );
    const stored = storedXattr(attribute, options);
    try {
      setXattr(fd, nameOf(name), stored, value);
    } catch (error) {
      refusedXattr(error, attribute, entry);
    }
  }
}

/** The kernel allows `user.*` on files and directories only; such an attribute elsewhere is dropped, as others do. */
function refusedXattr(error: unknown, attribute: string, entry: TarEntry): void {
  const code = systemCode(error);
  const plain = entry.type === "file" || entry.type === "directory";
  if (code === "EPERM" && !plain && attribute.startsWith(userAttributes)) return;
  if (code !== "EOPNOTSUPP" && code !== "ENOTSUP" && code !== "EPERM") throw error;
  throw new EngineError(
    "unsupported",
    `cannot set the attribute ${attribute} on ${quoted(entry.path)}: the filesystem below does not keep it (${code})`,
    { cause: error },
  );
}

export function setTime(fd: number, name: ByteString, entry: TarEntry): void {
  const time = boundTime(entry.mtime);
  utimensat(fd, nameOf(name), time, time);
}
