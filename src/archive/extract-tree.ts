/**
 * Unpacks a plain archive below a directory of a root filesystem: `docker cp`, ADD of a local tar, build contexts.
 * Names such as `.wh.x` mean nothing here. Symlinks on the way are followed inside the root only; the root may belong
 * to a running container that changes it meanwhile, so every step acts on the descriptor of what it resolved.
 * Synchronous calls inside: for workers.
 */
import { EngineError } from "../base/errors.ts";
import { utimensat } from "../host/sys.ts";
import { type ByteString, bytesOfText, cleanPath, entryPath, joinPath } from "./bytes.ts";
import { decompress } from "./decompress.ts";
import { boundTime, type PlaceOptions, placeEntry } from "./place-entry.ts";
import { TarReader } from "./read-tar.ts";
import { findStat, isDirectory, RootTree } from "./root-tree.ts";

export type ExtractOptions = {
  /** Refuses to put a directory where something else is, and the reverse. */
  readonly noOverwriteDirNonDir?: boolean;
  /** False: everything is root's; the archive's numbers are kept otherwise. */
  readonly copyOwner?: boolean;
  /** Everything gets this owner instead. */
  readonly owner?: { readonly uid: number; readonly gid: number };
  /** Makes `dest` (0755, root) where it is missing. */
  readonly createDest?: boolean;
  readonly signal?: AbortSignal;
};

/**
 * `root` is a host path, `dest` a path inside it. The archive may be compressed. Throws not_found when there is no
 * `dest`, invalid_argument when it is no directory or the archive is broken.
 */
export async function extractTree(
  input: AsyncIterable<Uint8Array>,
  root: string,
  dest: string,
  options: ExtractOptions = {},
): Promise<void> {
  using tree = new RootTree(root);
  const base = destination(tree, dest, options.createDest === true);
  const owner = options.owner ?? (options.copyOwner === false ? { uid: 0, gid: 0 } : undefined);
  const place: PlaceOptions = {
    base,
    ...(owner === undefined ? {} : { owner }),
    ...(options.noOverwriteDirNonDir === true ? { onReplace: refuseOtherKind } : {}),
  };
  const reader = new TarReader(decompress(input));
  const times = new Map<ByteString, bigint>();
  try {
    for (let entry = await reader.next(); entry !== undefined; entry = await reader.next()) {
      options.signal?.throwIfAborted();
      const path = entryPath(entry.path);
      // The archive's root is a directory that is there already and keeps its attributes.
      if (path === "") continue;
      const placed = await placeEntry(tree, entry, joinPath(base, path), reader, place);
      if (entry.type === "directory") times.set(placed.path, boundTime(entry.mtime));
      else times.delete(placed.path);
    }
  } finally {
    await reader.close();
  }
  for (const [path, time] of times) {
    const directory = tree.find(path);
    if (directory !== undefined) utimensat(directory.fd, "", time, time);
  }
}

const refuseOtherKind: NonNullable<PlaceOptions["onReplace"]> = (path, existing, entry) => {
  const was = isDirectory(existing.mode);
  if (was === (entry.type === "directory")) return;
  const [old, fresh] = was ? ["directory", "non-directory"] : ["non-directory", "directory"];
  throw new EngineError("invalid_argument", `cannot overwrite ${old} "/${path}" with ${fresh} "${entry.path}"`);
};

/** The real path of the destination. */
function destination(tree: RootTree, dest: string, make: boolean): ByteString {
  const path = cleanPath(`/${bytesOfText(dest)}`) ?? "";
  if (make) return tree.make(path).path;
  const found = tree.find(path);
  if (found !== undefined) return found.path;
  const parent = tree.find(path.slice(0, Math.max(path.lastIndexOf("/"), 0)));
  const exists = parent !== undefined && findStat(parent.fd, path.slice(path.lastIndexOf("/") + 1)) !== undefined;
  if (exists) throw new EngineError("invalid_argument", `extraction point is not a directory: ${dest}`);
  throw new EngineError("not_found", `Could not find the directory ${dest}`);
}
