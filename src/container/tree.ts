/**
 * The whole filesystem of a container as its processes see it, volumes and all, behind one directory descriptor. Of a
 * running container it is the process' own root; of any other, root and volumes are mounted in a private place below the
 * exec root until the tree is disposed.
 *
 * Every path inside is resolved against the descriptor (openat2), so that no link in it leads out, however it is swapped.
 */
import { randomBytes } from "node:crypto";
import { mkdir, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { systemCode } from "../base/errors.ts";
import { mountAll, unmountAllAsync } from "../host/mount.ts";
import type { Pool } from "../host/pool.ts";
import { AT_FDCWD, closeFd, O, openat2 } from "../host/sys.ts";
import type { MountPoint } from "./container.ts";
import type { Context } from "./context.ts";
import type { Entry, Run } from "./entry.ts";
import { remotePoolOf } from "./remote.ts";
import { type PlaceMount, placeMountTask, treeTasks } from "./tree-task.ts";

export type Tree = AsyncDisposable & {
  /** Open as long as the tree is not disposed. */
  readonly fd: number;
  /** A path of the descriptor, for threads and children of this process. */
  readonly path: string;
  /** Something in the tree may hang: only here may it be looked into. */
  readonly far: Pool | undefined;
};

export async function openTree(context: Context, entry: Entry): Promise<Tree> {
  const { run } = entry;
  const root = run === undefined ? undefined : openProcessRoot(entry, run);
  const far = remotePoolOf(context, entry.record);
  if (root === undefined) return mountTree(context, entry, far);
  return treeOf(root, far, async () => undefined);
}

/** As any process of ours may open it. */
const pathOf = (fd: number): string => `/proc/${process.pid}/fd/${fd}`;

function treeOf(fd: number, far: Pool | undefined, release: () => Promise<void>): Tree {
  let open = true;
  return {
    fd,
    path: pathOf(fd),
    far,
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

async function mountTree(context: Context, entry: Entry, far: Pool | undefined): Promise<Tree> {
  const use = `tree-${randomBytes(8).toString("hex")}`;
  const place = join(context.execRoot, "trees", use);
  await using undo = new AsyncDisposableStack();
  const rootfs = await context.layers.mountWritable(entry.id, use);
  undo.defer(() => context.layers.unmountWritable(entry.id, use));
  await mkdir(place, { recursive: true, mode: 0o700 });
  undo.defer(() => rmdir(place));
  mountAll([{ kind: "bind", source: rootfs, readonly: false }], place);
  undo.defer(() => unmountAllAsync(place));
  const root = openat2(AT_FDCWD, place, { flags: O.PATH | O.DIRECTORY });
  try {
    const path = pathOf(root);
    for (const point of entry.record.mounts) await mountInto(context, far, { root: path, point, use, undo });
  } catch (error) {
    closeFd(root);
    throw error;
  }
  const done = undo.move();
  return treeOf(root, far, () => done.disposeAsync());
}

type Placing = {
  readonly root: string;
  readonly point: MountPoint;
  readonly use: string;
  readonly undo: AsyncDisposableStack;
};

/** Unlike at a start, a bind whose source has gone is passed over, and a tmpfs is not there. */
async function mountInto(context: Context, far: Pool | undefined, placing: Placing): Promise<void> {
  const { root, point, use, undo } = placing;
  if (point.type === "tmpfs") return;
  const { name = "", destination, subpath } = point;
  let source = point.source;
  if (point.type === "volume") {
    source = await context.volumes.mount(name, use);
    undo.defer(() => context.volumes.unmount(name, use));
  }
  const access = { readonly: !point.readWrite, recursive: !point.nonRecursive };
  const argument = { root, source, subpath, destination, optional: point.type === "bind", ...access };
  if (far === undefined) placeMountTask(argument);
  else await far.run<PlaceMount, void>(treeTasks, "placeMountTask", argument);
}
