/**
 * Where dockerd's storage drivers keep the files of layers, and how what a container changed is read there. A reader
 * gets the driver's folder as a read-only view and makes no mount that could write.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { archiveTasks } from "../archive/task-url.ts";
import { EngineError } from "../base/errors.ts";
import type { Mounts } from "../base/mount.ts";
import type { Pool } from "../host/pool.ts";
import type { MountedTree } from "../layer/store.ts";
import { streamTask } from "../layer/stream-task.ts";
import { ZfsReader } from "./zfs-graph.ts";

/** A container's layer and what is below it, as ids of the driver; `parents` from the topmost down. */
export type ChangedLayer = { readonly id: string; readonly init: string; readonly parents: readonly string[] };

export type GraphContext = {
  /** `<data root>/<driver>`, read-only. */
  readonly home: string;
  readonly pool: Pool;
  readonly mount: (mounts: Mounts) => Promise<MountedTree>;
};

export interface GraphReader {
  /** The folder where the files of a layer stand under their names in its tar. Throws data_loss when it is gone. */
  files(id: string): Promise<MountedTree>;
  /** What a container changed, as a layer tar with exact times. */
  changes(layer: ChangedLayer, signal?: AbortSignal): AsyncIterable<Uint8Array>;
  /** Bytes of files that a container added or changed. */
  changesSize(layer: ChangedLayer): Promise<number>;
}

export type KnownGraph = { readonly name: string; readonly open: (context: GraphContext) => GraphReader };

/** Every driver that can be read. */
export const graphs: readonly KnownGraph[] = [
  { name: "overlay2", open: (context) => new OverlayReader(context) },
  { name: "btrfs", open: (context) => new TreeReader(context, "subvolumes") },
  { name: "vfs", open: (context) => new TreeReader(context, "dir") },
  { name: "zfs", open: (context) => new ZfsReader(context) },
  { name: "aufs", open: (context) => new AufsReader(context) },
];

function folderOf(path: string): string {
  if (existsSync(path)) return path;
  throw new EngineError("data_loss", `its folder ${path.split("/").slice(-3).join("/")} is missing`);
}

const unmounted = (path: string): MountedTree => ({ path, [Symbol.asyncDispose]: async () => undefined });

async function sizeOf(pool: Pool, path: string): Promise<number> {
  return (await pool.run<{ path: string }, { bytes: number }>(archiveTasks, "treeSizeTask", { path })).bytes;
}

/** `<id>/diff` holds what a layer changes, in the kernel's own form. */
class OverlayReader implements GraphReader {
  readonly #context: GraphContext;

  constructor(context: GraphContext) {
    this.#context = context;
  }

  async files(id: string): Promise<MountedTree> {
    return unmounted(this.#diff(id));
  }

  async *changes(layer: ChangedLayer, signal?: AbortSignal): AsyncGenerator<Uint8Array, void, void> {
    const lower = [layer.init, ...layer.parents].map((id) => this.#diff(id));
    await using view = await this.#context.mount([{ kind: "overlay", lower }]);
    const argument = { upper: this.#diff(layer.id), lowerView: view.path, exactTimes: true };
    const name = "overlayChangesTarTask";
    yield* streamTask(this.#context.pool, { module: archiveTasks, name, argument, signal });
  }

  async changesSize({ id }: ChangedLayer): Promise<number> {
    return sizeOf(this.#context.pool, this.#diff(id));
  }

  #diff(id: string): string {
    return folderOf(join(this.#context.home, id, "diff"));
  }
}

/** Every layer is a whole tree; a container's is compared with its init layer. */
class TreeReader implements GraphReader {
  readonly #pool: Pool;
  readonly #folder: string;

  constructor({ home, pool }: GraphContext, folder: string) {
    this.#pool = pool;
    this.#folder = join(home, folder);
  }

  async files(id: string): Promise<MountedTree> {
    return unmounted(this.#tree(id));
  }

  async *changes({ id, init }: ChangedLayer, signal?: AbortSignal): AsyncGenerator<Uint8Array, void, void> {
    const argument = { base: this.#tree(init), tree: this.#tree(id), exactTimes: true };
    yield* streamTask(this.#pool, { module: archiveTasks, name: "compareTreesTarTask", argument, signal });
  }

  async changesSize({ id, init }: ChangedLayer): Promise<number> {
    const argument = { base: this.#tree(init), tree: this.#tree(id) };
    return this.#pool.run<typeof argument, number>(archiveTasks, "compareTreesSizeTask", argument);
  }

  #tree(id: string): string {
    return folderOf(join(this.#folder, id));
  }
}

const aufsTasks = new URL("../storage-driver/aufs/layer-tar.ts", import.meta.url);

/** `diff/<id>` holds what a layer changes, with aufs' own names for what is gone; no aufs is needed to read it. */
class AufsReader implements GraphReader {
  readonly #pool: Pool;
  readonly #folder: string;

  constructor({ home, pool }: GraphContext) {
    this.#pool = pool;
    this.#folder = join(home, "diff");
  }

  async files(id: string): Promise<MountedTree> {
    return unmounted(this.#branch(id));
  }

  async *changes({ id }: ChangedLayer, signal?: AbortSignal): AsyncGenerator<Uint8Array, void, void> {
    const argument = { diff: this.#branch(id), exactTimes: true };
    yield* streamTask(this.#pool, { module: aufsTasks, name: "aufsLayerTarTask", argument, signal });
  }

  async changesSize({ id }: ChangedLayer): Promise<number> {
    return sizeOf(this.#pool, this.#branch(id));
  }

  #branch(id: string): string {
    return folderOf(join(this.#folder, id));
  }
}
