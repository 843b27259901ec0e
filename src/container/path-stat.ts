/**
 * What is at a path inside a container: Docker's `ContainerPathStat`. A link at the end is described, not followed, unless
 * the path ends in `/` or `/.`.
 */
import { readlinkSync } from "node:fs";
import { basename, dirname, posix } from "node:path";
import { EngineError, systemCode } from "../base/errors.ts";
import { closeFd, type FileStat, O, openat2, RESOLVE, statat } from "../host/sys.ts";
import type { PathStat } from "./container.ts";

/** The descriptor of a tree's root. */
type Tree = { readonly fd: number };

const inside = RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS;

const typeMask = 0o170000;
/** File type of st_mode -> bits of Go's os.FileMode. */
const goTypes: ReadonlyMap<number, number> = new Map([
  [0o040000, 2 ** 31],
  [0o120000, 2 ** 27],
  [0o060000, 2 ** 26],
  [0o020000, 2 ** 26 + 2 ** 21],
  [0o010000, 2 ** 25],
  [0o140000, 2 ** 24],
]);

/** st_mode as Go's os.FileMode. */
export function goMode(mode: number): number {
  const special = (mode & 0o4000 ? 2 ** 23 : 0) + (mode & 0o2000 ? 2 ** 22 : 0) + (mode & 0o1000 ? 2 ** 20 : 0);
  return (goTypes.get(mode & typeMask) ?? 0) + special + (mode & 0o777);
}

/** Absolute and clean, but with the trailing `/` or `/.` that a client wrote (it says "what is inside"). */
export function containerPath(path: string): string {
  if (path.includes("\0")) throw new EngineError("invalid_argument", "a path has no NUL byte in it");
  const clean = posix.normalize(`/${path}`).replace(/(.)\/+$/, "$1");
  if (clean === "/") return clean;
  if (path.endsWith("/.") || path === ".") return `${clean}/.`;
  return path.endsWith("/") ? `${clean}/` : clean;
}

export function notFound(path: string, nameOrId: string): EngineError {
  return new EngineError("not_found", `Could not find the file ${path} in container ${nameOrId}`);
}

const gone = new Set(["ENOENT", "ENOTDIR", "ELOOP", "ENAMETOOLONG"]);

/** Runs `work`; what says that the path is not there becomes Docker's not_found. */
export function orNotFound<T>(path: string, nameOrId: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (gone.has(systemCode(error) ?? "")) throw notFound(path, nameOrId);
    throw error;
  }
}

/** Where, inside the container, a descriptor below the tree's root is. */
export function pathInside(tree: Tree, fd: number): string {
  const root = readlinkSync(`/proc/self/fd/${tree.fd}`);
  const path = readlinkSync(`/proc/self/fd/${fd}`);
  return root === "/" ? path : path.slice(root.length) || "/";
}

/** Opens (O_PATH) what `path` leads to; links are followed inside the tree. */
export function openInside(tree: Tree, path: string, flags = 0): number {
  return openat2(tree.fd, `.${path}`, { flags: O.PATH | flags, resolve: inside });
}

/** Throws not_found in Docker's words. */
export function statInside(tree: Tree, path: string, nameOrId: string): PathStat {
  return orNotFound(path, nameOrId, () => {
    const follows = path === "/" || path.endsWith("/") || path.endsWith("/.");
    const stat = follows ? statTarget(tree, path) : statEntry(tree, path);
    return {
      name: path.endsWith("/.") ? "." : basename(path) || "/",
      size: Number(stat.size),
      mode: goMode(stat.mode),
      mtime: rfc3339(Number(stat.mtimeSec), Number(stat.mtimeNsec)),
      linkTarget: (stat.mode & typeMask) === 0o120000 ? linkTarget(tree, path) : "",
    };
  });
}

function statTarget(tree: Tree, path: string): FileStat {
  const fd = openInside(tree, path, path === "/" ? 0 : O.DIRECTORY);
  try {
    return statat(fd, "");
  } finally {
    closeFd(fd);
  }
}

function statEntry(tree: Tree, path: string): FileStat {
  const parent = openInside(tree, dirname(path), O.DIRECTORY);
  try {
    return statat(parent, basename(path));
  } finally {
    closeFd(parent);
  }
}

/** Absolute inside the container; of a link to nothing, what it says. */
function linkTarget(tree: Tree, path: string): string {
  try {
    const fd = openInside(tree, path);
    try {
      return pathInside(tree, fd);
    } finally {
      closeFd(fd);
    }
  } catch (error) {
    if (!gone.has(systemCode(error) ?? "")) throw error;
  }
  const parent = openInside(tree, dirname(path), O.DIRECTORY);
  try {
    const said = readlinkSync(`/proc/self/fd/${parent}/${basename(path)}`);
    return posix.resolve(dirname(path), said);
  } finally {
    closeFd(parent);
  }
}

function rfc3339(seconds: number, nanoseconds: number): string {
  const fraction = nanoseconds === 0 ? "" : `.${nanoseconds.toString().padStart(9, "0").replace(/0+$/, "")}`;
  return `${new Date(seconds * 1000).toISOString().slice(0, 19)}${fraction}Z`;
}
