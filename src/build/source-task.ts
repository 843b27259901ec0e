/**
 * The sources of a COPY or ADD, in a worker: which they are, and a digest of all that they would bring into the image:
 * names, kinds, modes, link targets and content, but not times and owners. The digest is part of the step's name, so that
 * a changed file makes another image and an unchanged one comes from the cache.
 */
import { createHash, type Hash } from "node:crypto";
import { readSync } from "node:fs";
import {
  type ByteString,
  bytesOf,
  bytesOfText,
  byteText,
  cleanPath,
  joinPath,
  nameOf,
  splitPath,
} from "../archive/bytes.ts";
import { decompress } from "../archive/decompress.ts";
import { TarReader } from "../archive/read-tar.ts";
import { findStat, isDirectory, isFile, isSymlink, RootTree } from "../archive/root-tree.ts";
import { EngineError, errorCode } from "../base/errors.ts";
import type { TaskContext } from "../host/pool.ts";
import { closeFd, type FileStat, O, openat2, RESOLVE, readDirectory, readlinkat } from "../host/sys.ts";
import { hasWildcards, matchPath } from "./glob.ts";
import { resolvePath } from "./resolve-path.ts";

export type Source = {
  readonly kind: "file" | "directory" | "archive";
  /** Real path of the directory itself, or of the file's directory; relative to the root. */
  readonly directory: ByteString;
  /** Of a file or archive, where it really is; "" for a directory. */
  readonly name: ByteString;
  /** What the source is called: the last component as it was asked for. */
  readonly base: ByteString;
};

export type FoundSources = {
  readonly sources: readonly Source[];
  /** `file:<hex>`, `dir:<hex>` or `multi:<hex>`, as Docker writes it. */
  readonly digest: string;
};

export type FindSources = {
  readonly root: string;
  readonly paths: readonly string[];
  /** COPY or ADD, for messages. */
  readonly command: string;
  /** ADD unpacks archives. */
  readonly archives: boolean;
  /** Owners come along, so they count. */
  readonly owners: boolean;
};

/** Throws invalid_argument, in Docker's words, for what is not there. */
export async function findSourcesTask(find: FindSources, { signal }: TaskContext): Promise<FoundSources> {
  using tree = new RootTree(find.root);
  const sources: Source[] = [];
  for (const path of find.paths) sources.push(...(await sourcesOf(tree, path, find)));
  if (sources.length === 0)
    throw new EngineError("invalid_argument", `${find.command} failed: no source files were specified`);
  const digests = sources.map((source) => digestOf(tree, source, { owners: find.owners, signal }));
  if (digests.length === 1) return { sources, digest: digests[0] ?? "" };
  return { sources, digest: `multi:${createHash("sha256").update(digests.join(",")).digest("hex")}` };
}

async function sourcesOf(tree: RootTree, path: string, find: FindSources): Promise<Source[]> {
  const clean = cleanPath(bytesOfText(path.replace(/^\/+/, "")));
  if (clean === undefined)
    throw new EngineError(
      "invalid_argument",
      `${find.command} failed: forbidden path outside the build context: ${path} ()`,
    );
  if (!hasWildcards(path)) return [await sourceOf(tree, clean, find)];
  const found: Source[] = [];
  for (const name of [...walk(tree, "")].map((entry) => entry.path).sort())
    if (matchPath(clean, name)) found.push(await sourceOf(tree, name, find));
  return found;
}

async function sourceOf(tree: RootTree, path: ByteString, find: FindSources): Promise<Source> {
  const resolved = resolvePath(tree, path);
  const base = splitPath(path).name;
  if (resolved.kind === "directory") return { kind: "directory", directory: resolved.path, name: "", base };
  if (resolved.kind !== "file")
    throw new EngineError(
      "invalid_argument",
      `${find.command} failed: file not found in build context or excluded by .dockerignore: stat ${byteText(path)}: file does not exist`,
    );
  const { parent: directory, name, stat } = resolved;
  if (!isFile(stat.mode))
    throw new EngineError(
      "invalid_argument",
      `${find.command} failed: ${byteText(path)} is neither a file nor a directory`,
    );
  const source: Source = { kind: "file", directory, name, base };
  return find.archives && (await isArchive(tree, source)) ? { ...source, kind: "archive" } : source;
}

/** Opens a source file; the caller closes it. */
export function openSource(tree: RootTree, source: Pick<Source, "directory" | "name">): number {
  const directory = tree.find(source.directory);
  if (directory === undefined) throw new EngineError("internal", `the directory of ${byteText(source.name)} is gone`);
  const flags = O.RDONLY | O.NOFOLLOW | O.NONBLOCK;
  return openat2(directory.fd, nameOf(source.name), { flags, resolve: RESOLVE.BENEATH });
}

/** A descriptor's content from where it stands. */
export async function* contentOf(fd: number): AsyncGenerator<Uint8Array, void, undefined> {
  for (;;) {
    const chunk = Buffer.allocUnsafeSlow(256 * 1024);
    const length = readSync(fd, chunk, 0, chunk.length, null);
    if (length === 0) return;
    yield chunk.subarray(0, length);
  }
}

/** A tar, plain or compressed, with at least one entry. */
async function isArchive(tree: RootTree, source: Source): Promise<boolean> {
  const fd = openSource(tree, source);
  const reader = new TarReader(decompress(contentOf(fd)));
  try {
    return (await reader.next()) !== undefined;
  } catch (error) {
    if (errorCode(error) === "invalid_argument") return false;
    throw error;
  } finally {
    await reader.close();
    closeFd(fd);
  }
}

export type Walked = {
  /** Real path of the directory that the entry is in. */
  readonly directory: ByteString;
  readonly name: ByteString;
  /** Relative to where the walk began. */
  readonly path: ByteString;
  readonly stat: FileStat;
};

/** Everything below a real directory, parents first, sorted. */
export function* walk(
  tree: RootTree,
  directory: ByteString,
  prefix: ByteString = "",
): Generator<Walked, void, undefined> {
  const opened = tree.find(directory);
  const names = opened === undefined ? [] : readDirectory(opened.fd).map(bytesOf).sort();
  for (const name of names) {
    const fd = tree.find(directory)?.fd;
    const stat = fd === undefined ? undefined : findStat(fd, name);
    if (stat === undefined) continue;
    const path = joinPath(prefix, name);
    yield { directory, name, path, stat };
    if (isDirectory(stat.mode)) yield* walk(tree, joinPath(directory, name), path);
  }
}

type Digesting = { readonly owners: boolean; readonly signal: AbortSignal };

function digestOf(tree: RootTree, source: Source, { owners, signal }: Digesting): string {
  const hash = createHash("sha256");
  if (source.kind !== "directory") {
    const fd = openSource(tree, source);
    try {
      const stat = findStat(fd, "");
      hash.update(JSON.stringify(["file", source.base, (stat?.mode ?? 0) & 0o7777, stat?.size ?? 0]));
      if (owners) hash.update(JSON.stringify([stat?.uid, stat?.gid]));
      hashContent(hash, fd);
    } finally {
      closeFd(fd);
    }
    return `file:${hash.digest("hex")}`;
  }
  for (const entry of walk(tree, source.directory)) {
    signal.throwIfAborted();
    hashEntry(hash, tree, entry);
    if (owners) hash.update(JSON.stringify([entry.stat.uid, entry.stat.gid]));
  }
  return `dir:${hash.digest("hex")}`;
}

function hashEntry(hash: Hash, tree: RootTree, { directory, name, path, stat }: Walked): void {
  const fd = tree.find(directory)?.fd;
  const target = fd !== undefined && isSymlink(stat.mode) ? bytesOf(readlinkat(fd, nameOf(name))) : "";
  const device = [stat.rdevMajor, stat.rdevMinor];
  const size = isFile(stat.mode) ? stat.size : 0;
  hash.update(JSON.stringify([path, stat.mode, size, target, device]));
  if (!isFile(stat.mode)) return;
  const file = openSource(tree, { directory, name });
  try {
    hashContent(hash, file);
  } finally {
    closeFd(file);
  }
}

function hashContent(hash: Hash, fd: number): void {
  const chunk = Buffer.allocUnsafe(256 * 1024);
  for (let length = readSync(fd, chunk); length > 0; length = readSync(fd, chunk))
    hash.update(chunk.subarray(0, length));
}
