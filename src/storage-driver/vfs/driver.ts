/**
 * vfs: every layer is a whole tree, an exact copy of its parent with its own changes in it. The simplest driver, and
 * the measure of all others: what a layer means is what this driver shows. Works on any filesystem; where files can
 * share blocks (xfs, btrfs), a copy costs as much as it has files, elsewhere as much as it has bytes.
 *
 *   <home>/dir/<id>        layers and writables
 *   <home>/staging/<id>    a layer being filled, `trash/<random>` what was removed
 */
import { chmod, mkdir, mkdtemp, open, rm } from "node:fs/promises";
import { join } from "node:path";
import { EngineError, systemCode } from "../../base/errors.ts";
import type { Mounts } from "../../base/mount.ts";
import { cloneFile } from "../../host/copy.ts";
import type { DriverContext, DriverFactory, LayerRef, Stage, StorageDriver, Traits } from "../driver.ts";
import { Folders } from "../folders.ts";
import { copyTree, sweepTrash } from "../walk.ts";

export const vfs: DriverFactory = {
  name: "vfs",
  async probe() {
    return undefined;
  },
  async open(home, options, context) {
    for (const key of Object.keys(options))
      throw new EngineError("invalid_argument", `vfs: unknown option ${key} (it has none)`);
    const folders = new Folders(home, "dir");
    await folders.create();
    return new Vfs(folders, await canReflink(folders.trash), context);
  },
};

class Vfs implements StorageDriver {
  readonly name = "vfs";
  readonly home: string;
  readonly traits: Traits;
  readonly #folders: Folders;
  readonly #context: DriverContext;

  constructor(folders: Folders, sharesBlocks: boolean, context: DriverContext) {
    this.home = folders.home;
    this.traits = { keeps: "whole", maxParents: 125, sharesBlocks, containerOptions: [] };
    this.#folders = folders;
    this.#context = context;
  }

  async stage(layer: LayerRef): Promise<Stage> {
    const source = await this.#make(layer);
    return { form: "tree", mounts: [{ kind: "bind", source, readonly: false }] };
  }

  async commit({ id }: LayerRef): Promise<void> {
    await this.#folders.commit(id);
  }

  async createWritable(layer: LayerRef, options: Readonly<Record<string, string>>): Promise<void> {
    for (const key of Object.keys(options))
      throw new EngineError("invalid_argument", `--storage-opt ${key} is not supported by the vfs storage driver`);
    await this.#make(layer);
    await this.#folders.commit(layer.id);
  }

  async mounts({ id }: LayerRef, kind: "layer" | "writable"): Promise<Mounts> {
    return [{ kind: "bind", source: this.#folders.kept(id), readonly: kind === "layer" }];
  }

  changes(): undefined {
    return undefined;
  }

  async remove(id: string): Promise<void> {
    await this.#folders.discard(id);
  }

  list(): Promise<readonly string[]> {
    return this.#folders.list();
  }

  sweep(signal?: AbortSignal): Promise<number> {
    return sweepTrash(this.#context.pool, this.#folders.trash, signal);
  }

  /** Docker's vfs has no rows. */
  async status(): Promise<readonly (readonly [string, string])[]> {
    return [];
  }

  describe(): Readonly<Record<string, string>> {
    return {};
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  /** Makes the staged tree: the parent's, or an empty root. */
  async #make({ id, parents }: LayerRef): Promise<string> {
    const path = this.#folders.staged(id);
    const [parent] = parents;
    if (parent === undefined) {
      await mkdir(path);
      await chmod(path, 0o755);
      return path;
    }
    try {
      await copyTree(this.#context.pool, this.#folders.kept(parent), path);
    } catch (error) {
      if (systemCode(error) !== "EEXIST") await this.#folders.discard(id);
      throw error;
    }
    return path;
  }
}

/** Whether two files in `folder` can share blocks, found out by trying. */
async function canReflink(folder: string): Promise<boolean> {
  const scratch = await mkdtemp(join(folder, "trial-"));
  try {
    await using source = await open(join(scratch, "source"), "w+");
    await using target = await open(join(scratch, "target"), "w+");
    await source.write("x");
    return cloneFile(source.fd, target.fd);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}
