/**
 * Writes a subtree of a root filesystem as a plain tar: `docker cp` out of a container, `export`. The path is resolved
 * inside the root; its last name is followed only when the path ends in `/` or `/.`. Entries are named as Docker does:
 * the base name of the path in front. Names are sorted, parents come first. For workers.
 */
import { EngineError } from "../base/errors.ts";
import { closeRead, readDirectory } from "../host/sys.ts";
import { type ByteString, bytesOf, bytesOfText, cleanPath, joinPath, splitPath } from "./bytes.ts";
import { findStat, isDirectory, type Location, openDirectory, RootTree } from "./root-tree.ts";
import { TarWriter } from "./write-tar.ts";
import { isGone, TreeWriter, viewXattrs } from "./write-tree.ts";

export type PackOptions = {
  /**
   * What stands in front of every name instead of the path's base name: "" means nothing, and no entry for the top
   * itself; "/" means a slash.
   */
  readonly rebaseName?: string;
  /** Paths below the top that are left out, with what is in them. */
  readonly exclude?: readonly string[];
};

type Packing = { readonly writer: TreeWriter; readonly exclude: ReadonlySet<ByteString> };

/** `root` is a host path, `path` one inside it. Throws not_found. */
export async function packTree(
  root: string,
  path: string,
  ...[write, options = {}]: [write: (chunk: Uint8Array) => Promise<void>, options?: PackOptions]
): Promise<void> {
  using tree = new RootTree(root);
  const tar = new TarWriter(write);
  const exclude = new Set((options.exclude ?? []).map((one) => cleanPath(`/${bytesOfText(one)}`) ?? ""));
  const packing = { writer: new TreeWriter(tar, viewXattrs), exclude };
  const prefix = bytesOfText(options.rebaseName ?? baseName(path));
  await packTop(tree, path, { packing, prefix });
  await tar.finish();
}

async function packTop(
  tree: RootTree,
  path: string,
  { packing, prefix }: { readonly packing: Packing; readonly prefix: ByteString },
): Promise<void> {
  const clean = cleanPath(`/${bytesOfText(path)}`) ?? "";
  const { parent, name } = splitPath(clean);
  const missing = (): EngineError => new EngineError("not_found", `Could not find the file ${path}`);
  const follow = clean === "" || /\/\.?$/.test(path);
  const directory = tree.find(follow ? clean : parent);
  if (directory === undefined) throw missing();
  const at = { fd: directory.fd, name: follow ? "" : name };
  const stat = findStat(at.fd, at.name);
  if (stat === undefined) throw missing();
  if (prefix !== "") await packing.writer.add(at, stat, prefix);
  if (isDirectory(stat.mode)) await packChildren(packing, at, { prefix, path: "" });
}

type Place = {
  /** Name in the archive. */
  readonly prefix: ByteString;
  /** Clean path below the top. */
  readonly path: ByteString;
};

async function packChildren(packing: Packing, at: Location, place: Place): Promise<void> {
  const fd = openDirectory(at.fd, at.name === "" ? "." : at.name);
  try {
    for (const name of readDirectory(fd).map(bytesOf).sort()) {
      const path = joinPath(place.path, name);
      const stat = packing.exclude.has(path) ? undefined : findStat(fd, name);
      if (stat === undefined) continue;
      const prefix = place.prefix.endsWith("/") ? place.prefix + name : joinPath(place.prefix, name);
      const written = await packing.writer.add({ fd, name }, stat, prefix);
      if (written && isDirectory(stat.mode)) await packBelow(packing, { fd, name }, { prefix, path });
    }
  } finally {
    closeRead(fd);
  }
}

/** A directory that vanished meanwhile is simply empty. */
async function packBelow(packing: Packing, at: Location, place: Place): Promise<void> {
  try {
    await packChildren(packing, at, place);
  } catch (error) {
    if (!isGone(error)) throw error;
  }
}

/** Go's filepath.Base, but a final "." stays. */
function baseName(path: string): string {
  const trimmed = path.replace(/\/+$/, "");
  if (trimmed === "") return "/";
  return trimmed.slice(trimmed.lastIndexOf("/") + 1);
}
