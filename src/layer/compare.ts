/**
 * What a writable layer changed: its size, its list of changes, its tar. Where the driver keeps changes apart
 * (overlay), only those are walked; elsewhere the tree is compared with its base, the image's init layer, at the places
 * that the driver names where it can name them. Everything is walked in pool workers, on a mounted container as it
 * stands, else on mounts of its own.
 */
import { join } from "node:path";
import { archiveTasks } from "../archive/task-url.ts";
import type { Change } from "../base/change.ts";
import { isError } from "../base/errors.ts";
import type { LayerRef } from "../storage-driver/driver.ts";
import { orTellLost } from "./lost-data.ts";
import { type Parts, refOf } from "./parts.ts";
import type { WritableRow } from "./records.ts";
import type { FilledTree, WritableView } from "./store.ts";
import { streamTask } from "./stream-task.ts";

/** A writable and, where it is mounted, its path. */
export type Subject = { readonly row: WritableRow; readonly path: string | undefined };

/** The layer as its driver knows it. */
export const writableRef = (parts: Parts, { data, init }: WritableRow): LayerRef => ({
  id: data,
  parents: parts.records.ancestry(init, 1),
});

/** Bytes of regular files that were added or changed, each inode once. */
export async function changesSize(parts: Parts, subject: Subject, signal?: AbortSignal): Promise<number> {
  const options = signal === undefined ? {} : { signal };
  await using directory = await changesToMeasure(parts, subject);
  if (directory !== undefined) {
    const argument = { path: directory.path };
    const { bytes } = await parts.pool.run<typeof argument, { bytes: number }>(
      archiveTasks,
      "treeSizeTask",
      argument,
      options,
    );
    return bytes;
  }
  await using trees = await mountTrees(parts, subject);
  const argument = await compareArgument(parts, subject, trees, signal);
  return await parts.pool.run<typeof argument, number>(archiveTasks, "compareTreesSizeTask", argument, options);
}

/** Sorted by path. */
export async function listChanges(parts: Parts, subject: Subject): Promise<readonly Change[]> {
  const { name, argument, mounted } = await comparison(parts, subject);
  await using _trees = mounted;
  return await parts.pool.run<object, Change[]>(archiveTasks, `${name}Task`, argument);
}

export type TarOptions = {
  readonly signal?: AbortSignal | undefined;
  /** Gets what the tar describes; for drivers that keep changes apart. */
  readonly tree?: FilledTree | undefined;
};

/** The changes as a layer tar. */
export async function* changesTar(
  parts: Parts,
  subject: Subject,
  { signal, tree }: TarOptions,
): AsyncGenerator<Uint8Array, void, void> {
  const { name, argument, mounted } = await comparison(parts, subject);
  await using _trees = mounted;
  const module = archiveTasks;
  if (tree === undefined) return yield* streamTask(parts.pool, { module, name: `${name}TarTask`, argument, signal });
  const { root: target, ...attributes } = tree;
  const copying = { ...argument, ...attributes, target };
  yield* streamTask(parts.pool, { module, name: "copyChangesTask", argument: copying, signal });
}

type Comparison = { readonly name: string; readonly argument: object; readonly mounted: AsyncDisposable };

async function comparison(parts: Parts, subject: Subject): Promise<Comparison> {
  await using stack = new AsyncDisposableStack();
  const upper = stack.use(await changesOf(parts, subject));
  if (upper === undefined) {
    const trees = stack.use(await mountTrees(parts, subject));
    const argument = await compareArgument(parts, subject, trees);
    return { name: "compareTrees", argument, mounted: stack.move() };
  }
  const base = stack.use(await mountBase(parts, subject.row));
  return {
    name: "overlayChanges",
    argument: { upper: upper.path, lowerView: base.path },
    mounted: stack.move(),
  };
}

type Directory = AsyncDisposable & { readonly path: string };

/** Asks for the mounts first, because that mends a writable which a power cut took. */
async function changesOf(parts: Parts, { row, path }: Subject): Promise<Directory | undefined> {
  if (path === undefined) await parts.driver.mounts(writableRef(parts, row), "writable");
  return changesHere(parts, row);
}

/** What a power cut tore has a size still: nobody may look at it, but its container is listed and removed. */
async function changesToMeasure(parts: Parts, subject: Subject): Promise<Directory | undefined> {
  try {
    return await changesOf(parts, subject);
  } catch (error) {
    if (!isError(error, "data_loss")) throw error;
    return changesHere(parts, subject.row);
  }
}

async function changesHere(parts: Parts, row: WritableRow): Promise<Directory | undefined> {
  const changes = parts.driver.changes(writableRef(parts, row));
  if (changes === undefined) return undefined;
  if (changes.mounts === undefined) return { path: changes.path, [Symbol.asyncDispose]: async () => undefined };
  const mounted = await parts.mounts.mount(changes.mounts);
  return { path: join(mounted.path, changes.path), [Symbol.asyncDispose]: () => mounted[Symbol.asyncDispose]() };
}

async function mountBase(parts: Parts, row: WritableRow): Promise<Directory> {
  const ref = refOf(parts, row.init);
  return orTellLost(parts, ref, async () => parts.mounts.mount(await parts.driver.mounts(ref, "layer")));
}

type Trees = AsyncDisposable & { readonly base: string; readonly tree: string };

async function mountTrees(parts: Parts, { row, path }: Subject): Promise<Trees> {
  await using stack = new AsyncDisposableStack();
  const base = stack.use(await mountBase(parts, row)).path;
  const tree = path ?? stack.use(await mountWritable(parts, row)).path;
  const kept = stack.move();
  return { base, tree, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}

async function mountWritable(parts: Parts, row: WritableRow): Promise<Directory> {
  const ref = writableRef(parts, row);
  return orTellLost(parts, ref, async () => parts.mounts.mount(await parts.driver.mounts(ref, "writable")));
}

/** A writable's tree beside what it began as, with what its driver knows of where they differ. */
export async function viewTrees(parts: Parts, subject: Subject): Promise<WritableView> {
  await using stack = new AsyncDisposableStack();
  const trees = stack.use(await mountTrees(parts, subject));
  const upper = stack.use(await changesOf(parts, subject));
  const ref = writableRef(parts, subject.row);
  const candidates = upper === undefined ? await parts.driver.candidates?.(ref) : undefined;
  const kept = stack.move();
  return {
    source: trees.tree,
    base: trees.base,
    upper: upper?.path,
    candidates,
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
}

/** Asked after the mounts, whose making may mend the tree. */
async function compareArgument(
  { driver, records }: Parts,
  { row }: Subject,
  { base, tree }: Trees,
  signal?: AbortSignal,
): Promise<object> {
  const ref = { id: row.data, parents: records.ancestry(row.init, 1) };
  return { base, tree, candidates: await driver.candidates?.(ref, signal) };
}
