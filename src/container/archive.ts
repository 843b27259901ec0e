/**
 * `docker cp`: a tar of what is at a path, and a tar unpacked into a directory, on running and stopped containers and on
 * paths in their volumes. Packing and unpacking run in the pool, against the tree's descriptor.
 */
import { archiveTasks } from "../archive/task-url.ts";
import { EngineError, isError } from "../base/errors.ts";
import { closeFd, statat } from "../host/sys.ts";
import { resolveUser } from "../runtime/user.ts";
import type { MountPoint, PathStat } from "./container.ts";
import { type Context, emit } from "./context.ts";
import type { Entry } from "./entry.ts";
import { containerPath, notFound, openInside, orNotFound, pathInside, statInside } from "./path-stat.ts";
import { openTree, type Tree } from "./tree.ts";

export async function statPath(context: Context, nameOrId: string, path: string): Promise<PathStat> {
  await using tree = await openTree(context, context.entries.get(nameOrId));
  return statInside(tree, containerPath(path), nameOrId);
}

export async function readArchive(
  context: Context,
  nameOrId: string,
  { path, signal }: { readonly path: string; readonly signal?: AbortSignal | undefined },
): Promise<{ readonly stat: PathStat; readonly tar: AsyncIterable<Uint8Array> }> {
  const entry = context.entries.get(nameOrId);
  await using opening = new AsyncDisposableStack();
  const tree = opening.use(await openTree(context, entry));
  const wanted = containerPath(path);
  const stat = statInside(tree, wanted, nameOrId);
  emit(context, entry, "archive-path");
  opening.move();
  return { stat, tar: packed(context, { tree, path: wanted, signal }) };
}

type Packing = { readonly tree: Tree; readonly path: string; readonly signal?: AbortSignal | undefined };

async function* packed(context: Context, { tree, path, signal }: Packing): AsyncGenerator<Uint8Array> {
  await using _ = tree;
  const options = signal === undefined ? {} : { signal };
  const task = context.pool.stream(archiveTasks, "packTreeTask", { root: tree.path, path }, options);
  yield* task.output;
  await task.result;
}

export type WriteOptions = {
  readonly path: string;
  readonly tar: AsyncIterable<Uint8Array>;
  readonly noOverwriteDirNonDir: boolean;
  readonly copyOwner: boolean;
};

/** Throws not_found, invalid_argument (no directory) or forbidden (read-only) in Docker's words. */
export async function writeArchive(context: Context, nameOrId: string, options: WriteOptions): Promise<void> {
  const entry = context.entries.get(nameOrId);
  await using tree = await openTree(context, entry);
  const dest = destination(tree, containerPath(options.path), nameOrId);
  refuseReadOnly(entry, dest);
  const argument = { root: tree.path, dest, noOverwriteDirNonDir: options.noOverwriteDirNonDir };
  const owner = options.copyOwner ? await ownerOf(entry, tree) : undefined;
  try {
    await context.pool.run(archiveTasks, "extractTreeTask", owner === undefined ? argument : { ...argument, owner }, {
      input: options.tar,
    });
  } catch (error) {
    if (isError(error, "not_found")) throw notFound(options.path, nameOrId);
    throw error;
  }
  emit(context, entry, "extract-to-dir");
}

/** The directory that `path` leads to, without links. */
function destination(tree: Tree, path: string, nameOrId: string): string {
  const fd = orNotFound(path, nameOrId, () => openInside(tree, path));
  try {
    if ((statat(fd, "").mode & 0o170000) !== 0o040000)
      throw new EngineError("invalid_argument", "extraction point is not a directory");
    return pathInside(tree, fd);
  } finally {
    closeFd(fd);
  }
}

function mountAt(mounts: readonly MountPoint[], path: string): MountPoint | undefined {
  return mounts
    .filter(({ destination: at }) => path === at || path.startsWith(`${at}/`))
    .sort((a, b) => a.destination.length - b.destination.length)
    .at(-1);
}

function refuseReadOnly({ record }: Entry, path: string): void {
  const mount = mountAt(record.mounts, path);
  if (mount !== undefined && !mount.readWrite) throw new EngineError("forbidden", "mounted volume is marked read-only");
  if (mount === undefined && record.hostConfig.ReadonlyRootfs === true)
    throw new EngineError("forbidden", "container rootfs is marked read-only");
}

/** `cp -a` into a container whose processes are not root: what is copied is theirs. */
async function ownerOf({ record }: Entry, tree: Tree): Promise<{ uid: number; gid: number } | undefined> {
  if (!record.config.User) return undefined;
  const { uid, gid } = await resolveUser(tree.path, record.config.User);
  return { uid, gid };
}
