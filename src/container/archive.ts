/**
 * `docker cp`: a tar of what is at a path, and a tar unpacked into a directory, on running and stopped containers and on
 * paths in their volumes. Packing and unpacking run in the pool, against the tree's descriptor.
 */
import { archiveTasks } from "../archive/task-url.ts";
import { EngineError, isError } from "../base/errors.ts";
import type { PathStat } from "./container.ts";
import { type Context, emit } from "./context.ts";
import type { Entry } from "./entry.ts";
import { containerPath, notFound } from "./path-stat.ts";
import { askingFor, mountAt } from "./remote.ts";
import { openTree, type Tree } from "./tree.ts";
import { destinationTask, ownerTask, statInsideTask, treeTasks } from "./tree-task.ts";

export async function statPath(context: Context, nameOrId: string, path: string): Promise<PathStat> {
  const entry = context.entries.get(nameOrId);
  await using tree = await openTree(context, entry);
  // The tree stays until then.
  return await statIn(context, entry, { tree, path: containerPath(path), nameOrId });
}

type Place = { readonly tree: Tree; readonly path: string; readonly nameOrId: string };

async function statIn(context: Context, { record }: Entry, { tree, path, nameOrId }: Place): Promise<PathStat> {
  const { far } = tree;
  const argument = { root: tree.path, path, nameOrId };
  if (far === undefined) return statInsideTask(argument);
  const work = (): Promise<PathStat> => far.run(treeTasks, "statInsideTask", argument);
  return askingFor(context, record, { path, work });
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
  const stat = await statIn(context, entry, { tree, path: wanted, nameOrId });
  emit(context, entry, "archive-path");
  opening.move();
  return { stat, tar: packed(context, entry, { tree, path: wanted, signal }) };
}

type Packing = { readonly tree: Tree; readonly path: string; readonly signal?: AbortSignal | undefined };

async function* packed(
  context: Context,
  { record }: Entry,
  { tree, path, signal }: Packing,
): AsyncGenerator<Uint8Array> {
  await using _ = tree;
  const options = signal === undefined ? {} : { signal };
  const task = (tree.far ?? context.pool).stream(archiveTasks, "packTreeTask", { root: tree.path, path }, options);
  try {
    yield* task.output;
    await task.result;
  } catch (error) {
    if (tree.far === undefined) throw error;
    await askingFor(context, record, { path, work: () => Promise.reject(error) });
  }
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
  const dest = await destination(context, entry, { tree, path: containerPath(options.path), nameOrId });
  refuseReadOnly(entry, dest);
  const argument = { root: tree.path, dest, noOverwriteDirNonDir: options.noOverwriteDirNonDir };
  const owner = options.copyOwner ? await ownerOf(entry, tree) : undefined;
  try {
    const pool = tree.far ?? context.pool;
    const work = (): Promise<void> =>
      pool.run<object, void>(archiveTasks, "extractTreeTask", owner === undefined ? argument : { ...argument, owner }, {
        input: options.tar,
      });
    await askingFor(context, entry.record, { path: dest, work });
  } catch (error) {
    if (isError(error, "not_found")) throw notFound(options.path, nameOrId);
    throw error;
  }
  emit(context, entry, "extract-to-dir");
}

/** The directory that `path` leads to, without links. */
async function destination(context: Context, { record }: Entry, { tree, path, nameOrId }: Place): Promise<string> {
  const { far } = tree;
  const argument = { root: tree.path, path, nameOrId };
  if (far === undefined) return destinationTask(argument);
  const work = (): Promise<string> => far.run(treeTasks, "destinationTask", argument);
  return askingFor(context, record, { path, work });
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
  const argument = { root: tree.path, user: record.config.User };
  return tree.far === undefined ? ownerTask(argument) : tree.far.run(treeTasks, "ownerTask", argument);
}
