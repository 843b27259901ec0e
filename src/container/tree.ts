/**
 * The whole filesystem of a container as its processes see it, volumes and all, behind one directory descriptor. Of a
 * running container it is the process' own root; of any other, root and volumes are mounted in a private place below the
 * exec root until the tree is disposed.
 *
 * Every path inside is resolved against the descriptor (openat2), so that no link in it leads out, however it is swapped.
 */
import { randomBytes } from "node:crypto";
import { fstat as fstatCallback } from "node:fs";
import { mkdir, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { EngineError, systemCode } from "../base/errors.ts";
import { mountAll, unmountAll } from "../host/mount.ts";
import { AT_FDCWD, closeFd, mkdirat, O, openat2, RESOLVE, readlinkat } from "../host/sys.ts";
import type { MountPoint } from "./container.ts";
import type { Context } from "./context.ts";
import type { Entry, Run } from "./entry.ts";
import { openBeneath } from "./subpath.ts";

const fstat = promisify(fstatCallback);
const inside = RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS;
/** As many as the kernel follows. */
const maxLinks = 40;

export type Tree = AsyncDisposable & {
  /** Open as long as the tree is not disposed. */
  readonly fd: number;
  /** A path of the descriptor, for the pool's tasks, which share this process' descriptors. */
  readonly path: string;
};

export async function openTree(context: Context, entry: Entry): Promise<Tree> {
  const { run } = entry;
  const root = run === undefined ? undefined : openProcessRoot(entry, run);
  if (root === undefined) return mountTree(context, entry);
  return treeOf(root, async () => undefined);
}

function treeOf(fd: number, release: () => Promise<void>): Tree {
  let open = true;
  return {
    fd,
    path: `/proc/self/fd/${fd}`,
    [Symbol.asyncDispose]: async () => {
      if (!open) return;
      open = false;
      closeFd(fd);
      await release();
    },
  };
}

/** Undefined when the process has ended, and its number may be another's. */
function openProcessRoot(entry: Entry, run: Run): number | undefined {
  try {
    const fd = openat2(AT_FDCWD, `/proc/${run.pid}/root`, { flags: O.PATH | O.DIRECTORY });
    if (entry.run === run) return fd;
    closeFd(fd);
    return undefined;
  } catch (error) {
    if (systemCode(error) === "ENOENT" || systemCode(error) === "ESRCH") return undefined;
    throw error;
  }
}

async function mountTree(context: Context, entry: Entry): Promise<Tree> {
  const use = `tree-${randomBytes(8).toString("hex")}`;
  const place = join(context.execRoot, "trees", use);
  await using undo = new AsyncDisposableStack();
  const rootfs = await context.layers.mountWritable(entry.id, use);
  undo.defer(() => context.layers.unmountWritable(entry.id, use));
  await mkdir(place, { recursive: true, mode: 0o700 });
  undo.defer(() => rmdir(place));
  mountAll([{ kind: "bind", source: rootfs, readonly: false }], place);
  undo.defer(() => unmountAll(place));
  const root = openat2(AT_FDCWD, place, { flags: O.PATH | O.DIRECTORY });
  try {
    for (const point of entry.record.mounts) await mountInto(context, { root, point, use, undo });
  } catch (error) {
    closeFd(root);
    throw error;
  }
  const done = undo.move();
  return treeOf(root, () => done.disposeAsync());
}

type Placing = {
  readonly root: number;
  readonly point: MountPoint;
  readonly use: string;
  readonly undo: AsyncDisposableStack;
};

/** Unlike at a start, a bind whose source has gone is passed over, and a tmpfs is not there. */
async function mountInto(context: Context, { root, point, use, undo }: Placing): Promise<void> {
  if (point.type === "tmpfs") return;
  const source = await openSource(context, { root, point, use, undo });
  if (source === undefined) return;
  try {
    const target = openTarget(root, point.destination, (await fstat(source)).isDirectory());
    try {
      const step = { kind: "bind", source: `/proc/self/fd/${source}`, readonly: !point.readWrite } as const;
      mountAll([{ ...step, recursive: !point.nonRecursive }], `/proc/self/fd/${target}`);
    } finally {
      closeFd(target);
    }
  } finally {
    closeFd(source);
  }
}

async function openSource(context: Context, { point, use, undo }: Placing): Promise<number | undefined> {
  if (point.type === "bind") {
    try {
      return openat2(AT_FDCWD, point.source, { flags: O.PATH });
    } catch (error) {
      if (systemCode(error) === "ENOENT") return undefined;
      throw error;
    }
  }
  const { name = "", subpath } = point;
  const path = await context.volumes.mount(name, use);
  undo.defer(() => context.volumes.unmount(name, use));
  const volume = openat2(AT_FDCWD, path, { flags: O.PATH });
  if (subpath === undefined) return volume;
  try {
    return openBeneath(volume, subpath);
  } finally {
    closeFd(volume);
  }
}

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
