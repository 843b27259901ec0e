/**
 * btrfs: every layer is a subvolume, made as a snapshot of its parent: a whole tree that shares every unchanged block,
 * at the cost of one ioctl whatever its size.
 *
 *   <home>/subvolumes/<id>   layers (read-only subvolumes) and writables
 *   <home>/staging/<id>      a layer being filled, `trash/<random>` what was removed
 */
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { errorMessage, systemCode } from "../../base/errors.ts";
import type { Mounts } from "../../base/mount.ts";
import { syncFilesystem } from "../../host/durable.ts";
import { filesystemName, nearestExisting } from "../../host/filesystem.ts";
import { emptyTrashTask, makeSubvolumeTask } from "../../host/subvolume-task.ts";
import { inTrialFolder } from "../../host/trial-folder.ts";
import type { DriverContext, DriverFactory, LayerRef, Stage, StorageDriver, Traits } from "../driver.ts";
import { Folders } from "../folders.ts";
import { containerSize, type SizeRules, sizeOption } from "../size-limit.ts";
import { parseOptions } from "./options.ts";

const tasks = new URL("../../host/subvolume-task.ts", import.meta.url);
const generations = new URL("./generations.ts", import.meta.url);

export const btrfs: DriverFactory = {
  name: "btrfs",
  async probe(home) {
    const above = await nearestExisting(home);
    const filesystem = await filesystemName(above);
    if (filesystem !== "btrfs") return `${home} is on ${filesystem}; the btrfs driver needs a btrfs filesystem there`;
    return trySubvolume(home);
  },
  async open(home, options, context) {
    const sizes = parseOptions(options);
    const folders = new Folders(home, "subvolumes");
    await folders.create();
    if (sizes.minimum !== undefined || sizes.standard !== undefined)
      await context.pool.run<{ path: string }, void>(tasks, "enableQuotaTask", { path: home });
    return new Btrfs(folders, sizes, context);
  },
};

class Btrfs implements StorageDriver {
  readonly name = "btrfs";
  readonly home: string;
  readonly traits: Traits = { keeps: "whole", maxParents: 500, sharesBlocks: true, containerOptions: [sizeOption] };
  readonly #folders: Folders;
  readonly #sizes: SizeRules;
  readonly #context: DriverContext;

  constructor(folders: Folders, sizes: SizeRules, context: DriverContext) {
    this.home = folders.home;
    this.#folders = folders;
    this.#sizes = sizes;
    this.#context = context;
  }

  async stage(layer: LayerRef): Promise<Stage> {
    await this.#make(layer);
    return { form: "tree", mounts: [{ kind: "bind", source: this.#folders.staged(layer.id), readonly: false }] };
  }

  /** The rename first: a read-only subvolume does not move. */
  async commit({ id }: LayerRef): Promise<void> {
    await this.#folders.commit(id);
    await this.#setReadOnly(this.#folders.kept(id), true);
  }

  async createWritable(layer: LayerRef, options: Readonly<Record<string, string>>): Promise<void> {
    const size = containerSize(options, this.#sizes);
    await this.#make(layer);
    // Before the rename: what is in sight has its limit.
    if (size !== undefined) await this.#limit(layer.id, size);
    await this.#folders.commit(layer.id);
  }

  /** A snapshot. It would show subvolumes that the container made as empty directories, so one with such is not cloned. */
  async cloneWritable(source: LayerRef, { id }: LayerRef, options: Readonly<Record<string, string>>): Promise<boolean> {
    const size = containerSize(options, this.#sizes);
    const path = this.#folders.kept(source.id);
    if (await this.#context.pool.run<{ path: string }, boolean>(tasks, "holdsSubvolumesTask", { path })) return false;
    await this.#make({ id, parents: [source.id] });
    if (size !== undefined) await this.#limit(id, size);
    await this.#folders.commit(id);
    return true;
  }

  async mounts({ id }: LayerRef, kind: "layer" | "writable"): Promise<Mounts> {
    return [{ kind: "bind", source: this.#folders.kept(id), readonly: kind === "layer" }];
  }

  changes(): undefined {
    return undefined;
  }

  /** By the generations that btrfs keeps (see generations.ts); writes everything out first, because it looks at the disk's trees. */
  async candidates({ id, parents }: LayerRef, signal?: AbortSignal): Promise<readonly string[] | undefined> {
    const [parent] = parents;
    if (parent === undefined) return undefined;
    await syncFilesystem(this.home);
    const argument = { writable: this.#folders.kept(id), parent: this.#folders.kept(parent) };
    return this.#context.pool.run<typeof argument, string[] | undefined>(
      generations,
      "candidatesTask",
      argument,
      signal ? { signal } : {},
    );
  }

  async remove(id: string): Promise<void> {
    const kept = this.#folders.kept(id);
    try {
      if ((await stat(kept)).isDirectory()) await this.#setReadOnly(kept, false);
    } catch (error) {
      if (systemCode(error) !== "ENOENT") throw error;
    }
    await this.#folders.discard(id);
  }

  list(): Promise<readonly string[]> {
    return this.#folders.list();
  }

  async sweep(signal?: AbortSignal): Promise<number> {
    const folder = this.#folders.trash;
    return this.#context.pool.run<{ folder: string }, number>(
      tasks,
      "emptyTrashTask",
      { folder },
      signal ? { signal } : {},
    );
  }

  /** Docker's one row (moby btrfs.Status). */
  async status(): Promise<readonly (readonly [string, string])[]> {
    return [["Btrfs", ""]];
  }

  describe(): Readonly<Record<string, string>> {
    return {};
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  async #make({ id, parents }: LayerRef): Promise<void> {
    const path = this.#folders.staged(id);
    const [parent] = parents;
    const argument = parent === undefined ? { path } : { path, source: this.#folders.kept(parent) };
    await this.#context.pool.run<{ path: string; source?: string }, void>(tasks, "makeSubvolumeTask", argument);
  }

  async #limit(id: string, bytes: number): Promise<void> {
    try {
      const argument = { path: this.#folders.staged(id), bytes };
      await this.#context.pool.run<{ path: string; bytes: number }, void>(tasks, "limitTask", argument);
    } catch (error) {
      await this.#folders.discard(id);
      throw error;
    }
  }

  async #setReadOnly(path: string, readOnly: boolean): Promise<void> {
    await this.#context.pool.run<{ path: string; readOnly: boolean }, void>(tasks, "setReadOnlyTask", {
      path,
      readOnly,
    });
  }
}

/** Makes and deletes a subvolume in `home`; resolves to why that cannot be. */
async function trySubvolume(home: string): Promise<string | undefined> {
  try {
    await inTrialFolder(home, async (folder) => {
      makeSubvolumeTask({ path: join(folder, "subvolume") });
      emptyTrashTask({ folder });
    });
    return undefined;
  } catch (error) {
    return `a btrfs subvolume cannot be made in ${home}: ${errorMessage(error)}`;
  }
}
