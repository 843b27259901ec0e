/**
 * Where a path leads inside a root, every symlink followed there, the last one too: what Docker calls a scoped path.
 * Reads only: what is missing is said, not made. For workers.
 */
import { type ByteString, bytesOf, joinPath, nameOf, quoted, splitPath } from "../archive/bytes.ts";
import { findStat, isSymlink, type RootTree } from "../archive/root-tree.ts";
import { EngineError } from "../base/errors.ts";
import { type FileStat, readlinkat } from "../host/sys.ts";

export type Resolved =
  | { readonly kind: "directory"; readonly path: ByteString }
  /** Anything but a directory or a symlink, in the real directory `parent`. */
  | { readonly kind: "file"; readonly parent: ByteString; readonly name: ByteString; readonly stat: FileStat }
  /** `parent` is the deepest directory that exists, `rest` (at least one) what would have to be made in it. */
  | { readonly kind: "missing"; readonly parent: ByteString; readonly rest: readonly ByteString[] }
  /** Something on the way is no directory. */
  | { readonly kind: "blocked"; readonly by: ByteString };

const mostSymlinks = 40;

/** `path` may begin with a slash. Throws invalid_argument for symlinks in a circle. */
export function resolvePath(tree: RootTree, path: ByteString, links = 0): Resolved {
  const trimmed = path.replace(/^\/+|\/+$/g, "");
  const directory = tree.find(trimmed);
  if (directory !== undefined) return { kind: "directory", path: directory.path };
  const { parent, name } = splitPath(trimmed);
  const above = resolvePath(tree, parent, links);
  if (above.kind === "missing") return { ...above, rest: [...above.rest, name] };
  if (above.kind === "file") return { kind: "blocked", by: joinPath(above.parent, above.name) };
  if (above.kind === "blocked") return above;
  return resolveName(tree, { parent: above.path, name }, links);
}

function resolveName(
  tree: RootTree,
  { parent, name }: { readonly parent: ByteString; readonly name: ByteString },
  links: number,
): Resolved {
  const fd = tree.find(parent)?.fd;
  const stat = fd === undefined ? undefined : findStat(fd, name);
  if (fd === undefined || stat === undefined) return { kind: "missing", parent, rest: [name] };
  if (!isSymlink(stat.mode)) return { kind: "file", parent, name, stat };
  if (links >= mostSymlinks)
    throw new EngineError("invalid_argument", `too many levels of symbolic links at ${quoted(joinPath(parent, name))}`);
  const target = bytesOf(readlinkat(fd, nameOf(name)));
  return resolvePath(tree, target.startsWith("/") ? target : joinPath(parent, target), links + 1);
}
