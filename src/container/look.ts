/** Looking at a container: sizes, processes, statistics, changes, the size of its terminal. */
import type { ContainerStats, ProcessTable } from "../runtime/runtime.ts";
import type { ContainerSize } from "./container.ts";
import { type Context, emit } from "./context.ts";
import type { Entry } from "./entry.ts";

export type TerminalSize = { readonly height: number; readonly width: number };

const nothing: ContainerStats = {
  cpuTotal: 0,
  cpuUser: 0,
  cpuSystem: 0,
  systemCpu: 0,
  onlineCpus: 0,
  memoryUsage: 0,
  memoryLimit: 0,
  memoryStats: {},
  pids: 0,
  blkio: [],
};

const notRunning = ({ id }: Entry): string => `container ${id} is not running`;

export async function sizeOf(context: Context, entry: Entry): Promise<ContainerSize> {
  const { imageId } = entry.record;
  const rw = await context.layers.writableSize(entry.id);
  const image = imageId === undefined ? undefined : context.images.find(imageId);
  return { rw, rootFs: rw + (image?.size ?? 0) };
}

/** Zeros for one that does not run, as Docker answers. */
export async function statsOf(context: Context, entry: Entry): Promise<ContainerStats> {
  return entry.run === undefined ? nothing : context.runtime.stats(entry.id);
}

/** Throws conflict unless it runs. */
export async function processesOf(
  context: Context,
  entry: Entry,
  psArguments: readonly string[],
): Promise<ProcessTable> {
  entry.runOr(notRunning(entry));
  const table = await context.runtime.top(entry.id, psArguments);
  emit(context, entry, "top");
  return table;
}

/** Throws conflict unless it runs. */
export async function resizeTerminal(context: Context, entry: Entry, size: TerminalSize): Promise<void> {
  entry.runOr(notRunning(entry));
  await context.runtime.resize(entry.id, undefined, size);
  emit(context, entry, "resize", { height: String(size.height), width: String(size.width) });
}
