/**
 * This folder's work as tasks of the worker pool: `pool.run(archiveTasks, "applyLayerTask", argument, { input })`. The
 * arguments are plain values; bytes come as the task's input and go as its output.
 */
import type { Change } from "../base/change.ts";
import { EngineError } from "../base/errors.ts";
import type { TaskContext } from "../host/pool.ts";
import { type AppliedLayer, applyLayer } from "./apply-layer.ts";
import { quoted } from "./bytes.ts";
import { type CompareOptions, compareTrees, compareTreesSize, compareTreesTar } from "./compare-trees.ts";
import { extractTree } from "./extract-tree.ts";
import { FreeDiff, type OpaqueMark } from "./free-diff.ts";
import { type MatchArgument, matchTree, unmatchedPaths } from "./match-tree.ts";
import { overlayChanges, overlayChangesTar } from "./overlay-changes.ts";
import { packTree } from "./pack-tree.ts";
import { restoreTar } from "./restore-tar.ts";
import { type SettleArgument, type Settled, settleDiff } from "./settle-diff.ts";
import { type CopyOptions, TreeCopy } from "./tree-copy.ts";
import { type TreeSize, treeSize } from "./tree-size.ts";
import type { TarTimes } from "./write-difference.ts";

export type ApplyLayerArgument = {
  readonly root: string;
  readonly recipePath: string;
  readonly escapeXattrs?: { readonly from: string; readonly to: string };
  readonly refusedXattrs?: readonly string[];
  readonly keepAttributes?: boolean;
};

/** The input is the uncompressed tar. */
export function applyLayerTask({ root, ...options }: ApplyLayerArgument, context: TaskContext): Promise<AppliedLayer> {
  return applyLayer(context.input, root, { ...options, signal: context.signal });
}

export type UnpackDiffArgument = ApplyLayerArgument & {
  readonly opaque: OpaqueMark;
  /** `root` is being filled by {@link copyChangesTask} instead, whose tar and whose `openFiles` these are. */
  readonly copied?: SharedArrayBuffer;
};

/** A layer that was unpacked without the tree below it; `facts` are undefined when it cannot stand so. */
export type UnpackedDiff = AppliedLayer & { readonly facts: Uint8Array | undefined };

/** The input is the uncompressed tar, `root` an empty directory. */
export async function unpackDiffTask(argument: UnpackDiffArgument, context: TaskContext): Promise<UnpackedDiff> {
  const { root, opaque, ...options } = argument;
  const free = new FreeDiff(opaque);
  const applied = await applyLayer(context.input, root, { ...options, free, signal: context.signal });
  return { ...applied, facts: free.facts.dependent ? undefined : free.facts.encode() };
}

export function settleDiffTask(argument: SettleArgument): Settled {
  return settleDiff(argument);
}

export type RestoreTarArgument = { readonly recipePath: string; readonly root: string };

/** The output is the tar. */
export async function restoreTarTask(argument: RestoreTarArgument, context: TaskContext): Promise<void> {
  for await (const chunk of restoreTar(argument.recipePath, argument.root)) {
    context.signal.throwIfAborted();
    await context.write(chunk);
  }
}

export type OverlayArgument = { readonly upper: string; readonly lowerView: string };

export function overlayChangesTask(argument: OverlayArgument): Change[] {
  return overlayChanges(argument.upper, argument.lowerView);
}

/** The output is a layer tar. */
export function overlayChangesTarTask(argument: OverlayArgument & TarTimes, context: TaskContext): Promise<void> {
  const { upper, lowerView, ...times } = argument;
  return overlayChangesTar(upper, lowerView, writeOf(context), times);
}

export type CopyChangesArgument = OverlayArgument & CopyOptions & { readonly target: string };

/** As {@link overlayChangesTarTask}; what the tar says is put into the empty tree `target` meanwhile. */
export async function copyChangesTask(argument: CopyChangesArgument, context: TaskContext): Promise<void> {
  const { upper, lowerView, target, ...options } = argument;
  using copy = new TreeCopy(target, options);
  await overlayChangesTar(upper, lowerView, writeOf(context), { copy });
}

export type CompareArgument = CompareOptions & { readonly base: string; readonly tree: string };

export function compareTreesTask({ base, tree, ...options }: CompareArgument): Change[] {
  return compareTrees(base, tree, options);
}

/** The output is a layer tar. */
export function compareTreesTarTask(argument: CompareArgument & TarTimes, context: TaskContext): Promise<void> {
  const { base, tree, ...options } = argument;
  return compareTreesTar(base, tree, { ...options, write: writeOf(context) });
}

export function compareTreesSizeTask({ base, tree, ...options }: CompareArgument): number {
  return compareTreesSize(base, tree, options);
}

export function treeSizeTask(argument: { readonly path: string }): TreeSize {
  return treeSize(argument.path);
}

/** Makes `target` what `source` is, then looks at both again: data_loss when they still differ. */
export function matchTreeTask(argument: MatchArgument, { signal }: Pick<TaskContext, "signal">): void {
  matchTree(argument, signal);
  const different = unmatchedPaths(argument, signal);
  if (different.length > 0)
    throw new EngineError(
      "data_loss",
      `the copy differs from what was copied at ${different.map((path) => quoted(`/${path}`)).join(", ")}`,
    );
}

export type ExtractTreeArgument = {
  readonly root: string;
  readonly dest: string;
  readonly noOverwriteDirNonDir?: boolean;
  readonly copyOwner?: boolean;
  readonly owner?: { readonly uid: number; readonly gid: number };
  readonly createDest?: boolean;
};

/** The input is the archive, plain or compressed. */
export function extractTreeTask({ root, dest, ...options }: ExtractTreeArgument, context: TaskContext): Promise<void> {
  return extractTree(context.input, root, dest, { ...options, signal: context.signal });
}

export type PackTreeArgument = {
  readonly root: string;
  readonly path: string;
  readonly rebaseName?: string;
  readonly exclude?: readonly string[];
};

/** The output is the archive. */
export function packTreeTask({ root, path, ...options }: PackTreeArgument, context: TaskContext): Promise<void> {
  return packTree(root, path, writeOf(context), options);
}

function writeOf(context: TaskContext): (chunk: Uint8Array) => Promise<void> {
  return async (chunk) => {
    context.signal.throwIfAborted();
    await context.write(chunk);
  };
}
