/**
 * Looks into the tree of a container, and mounts in it, as tasks: in a child process with a deadline where something in the
 * tree may hang, else called as they are. A tree is a path of its descriptor (tree.ts).
 */
import { EngineError, systemCode } from "../base/errors.ts";
import { mountAll } from "../host/mount.ts";
import { AT_FDCWD, closeFd, mkdirat, O, openat2, RESOLVE, readlinkat, statat } from "../host/sys.ts";
import { resolveUser } from "../runtime/user.ts";
import type { PathStat } from "./container.ts";
import { openInside, orNotFound, pathInside, statInside } from "./path-stat.ts";
import { openBeneath } from "./subpath.ts";

/** Where these tasks are, for a child process. */
export const treeTasks = new URL(import.meta.url);

const inside = RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS;
/** As many as the kernel follows. */
const maxLinks = 40;

export type InTree = { readonly root: string; readonly path: string; readonly nameOrId: string };

/** Throws not_found in Docker's words. */
export function statInsideTask({ root, path, nameOrId }: InTree): PathStat {
  return inTree(root, (fd) => statInside({ fd }, path, nameOrId));
}

/** The directory that `path` leads to, without links. */
export function destinationTask({ root, path, nameOrId }: InTree): string {
  return inTree(root, (top) => {
    const fd = orNotFound(path, nameOrId, () => openInside({ fd: top }, path));
    try {
      if (!isDirectory(fd)) throw new EngineError("invalid_argument", "extraction point is not a directory");
      return pathInside({ fd: top }, fd);
    } finally {
      closeFd(fd);
    }
  });
}

export type TreeUser = { readonly root: string; readonly user: string };

export async function ownerTask({ root, user }: TreeUser): Promise<{ readonly uid: number; readonly gid: number }> {
  const { uid, gid } = await resolveUser(root, user);
  return { uid, gid };
}

export type PlaceMount = {
  readonly root: string;
  readonly source: string;
  readonly subpath: string | undefined;
  readonly destination: string;
  /** A source that has gone is passed over. */
  readonly optional: boolean;
  readonly readonly: boolean;
  readonly recursive: boolean;
};

/** Binds a source of the host to a place in the tree. */
export function placeMountTask(argument: PlaceMount): void {
  const source = openSource(argument);
  if (source === undefined) return;
  const { root, destination, readonly, recursive } = argument;
  try {
    inTree(root, (top) => {
      const target = openTarget(top, destination, isDirectory(source));
      try {
        const step = { kind: "bind", source: `/proc/self/fd/${source}`, readonly, recursive } as const;
        mountAll([step], `/proc/self/fd/${target}`);
      } finally {
        closeFd(target);
      }
    });
  } finally {
    closeFd(source);
  }
}

function openSource({ source, subpath, optional }: PlaceMount): number | undefined {
  let found: number;
  try {
    found = openat2(AT_FDCWD, source, { flags: O.PATH });
  } catch (error) {
    if (optional && systemCode(error) === "ENOENT") return undefined;
    throw error;
  }
  if (subpath === undefined) return found;
  try {
    return openBeneath(found, subpath);
  } finally {
    closeFd(found);
  }
}

function inTree<T>(root: string, work: (fd: number) => T): T {
  const fd = openat2(AT_FDCWD, root, { flags: O.PATH | O.DIRECTORY });
  try {
    return work(fd);
  } finally {
    closeFd(fd);
  }
}

const isDirectory = (fd: number): boolean => (statat(fd, "").mode & 0o170000) === 0o040000;

/**
 * The mount's target inside the root, made where it is missing, as the runtime makes it at a start: a link that leads
 * nowhere is followed too, and what it names is made.
 */
function openTarget(root: number, destination: string, directory: boolean, links = maxLinks): number {
  const parts = partsOf(destination);
  let parent = openat2(root, ".", { flags: O.PATH | O.DIRECTORY, resolve: inside });
  try {
    for (const [index, part] of parts.entries()) {
      const last = index === parts.length - 1;
      const path = parts.slice(0, index + 1).join("/");
      const next = openPart(root, path, () => makePart(parent, part, directory || !last));
      if (next === undefined) {
        if (links === 0) throw new EngineError("invalid_argument", `too many links in ${destination}`);
        const link = readlinkat(parent, part).toString();
        const target = [...(link.startsWith("/") ? [] : parts.slice(0, index)), link, ...parts.slice(index + 1)];
        const found = openTarget(root, target.join("/"), directory, links - 1);
        closeFd(parent);
        return found;
      }
      closeFd(parent);
      parent = next;
    }
    return parent;
  } catch (error) {
    closeFd(parent);
    throw error;
  }
}

const partsOf = (path: string): readonly string[] => path.split("/").filter((part) => part !== "" && part !== ".");

/** Undefined for a link that leads nowhere. */
function openPart(root: number, path: string, make: () => void): number | undefined {
  const how = { flags: O.PATH, resolve: inside };
  try {
    return openat2(root, path, how);
  } catch (error) {
    if (systemCode(error) !== "ENOENT") throw error;
  }
  try {
    make();
  } catch (error) {
    if (systemCode(error) !== "EEXIST") throw error;
    return undefined;
  }
  return openat2(root, path, how);
}

function makePart(parent: number, name: string, directory: boolean): void {
  if (directory) mkdirat(parent, name, 0o755);
  else closeFd(openat2(parent, name, { flags: O.WRONLY | O.CREAT | O.EXCL, mode: 0o644, resolve: RESOLVE.BENEATH }));
}
