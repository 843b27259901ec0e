/**
 * vfs: every layer is a whole tree, an exact copy of its parent with its own changes in it. The simplest driver, and
 * the measure of all others: what a layer means is what this driver shows. Works on any filesystem; where files can
 * share blocks (xfs, btrfs), a copy costs as much as it has files, elsewhere as much as it has bytes.
 *
 *   <home>/dir/<id>        layers and writables; a file for a writable with a size limit: a filesystem that holds its tree
 *   <home>/staging/<id>    a layer being filled, `trash/<random>` what was removed
 */
import { chmod, lstat, mkdir, mkdtemp, open, rm } from "node:fs/promises";
import { join } from "node:path";
import { systemCode } from "../../base/errors.ts";
import type { Mounts } from "../../base/mount.ts";
import { cloneFile } from "../../host/copy.ts";
import { filesystemName } from "../../host/filesystem.ts";
import { findLimiter, type Limiter } from "../../host/limiter.ts";
import { releaseFolder } from "../../host/project-limit.ts";
import { imageStep } from "../../host/size-image.ts";
import type { DriverContext, DriverFactory, LayerRef, Stage, StorageDriver, Traits } from "../driver.ts";
import { Folders } from "../folders.ts";
import { limitRules, writableSize } from "../limiter.ts";
import { type SizeRules, sizeOption } from "../size-limit.ts";
import { copyTree, sweepTrash } from "../walk.ts";
import { makeLimitedTree, parseOptions, sizeRefusal } from "./limited.ts";

export const vfs: DriverFactory = {
  name: "vfs",
  async probe() {
    return undefined;
  },
  async open(home, options, context) {
    const asked = parseOptions(options);
    const folders = new Folders(home, "dir");
    await folders.create();
    const limiter = await findLimiter(home);
    const sizes = limitRules(asked, limiter);
    return new Vfs({ folders, sizes, limiter, sharesBlocks: await canReflink(folders.trash), context });
  },
};

type Parts = {
  readonly folders: Folders;
  readonly sizes: SizeRules;
  readonly limiter: Limiter;
  readonly sharesBlocks: boolean;
  readonly context: DriverContext;
};

class Vfs implements StorageDriver {
  readonly name = "vfs";
  readonly home: string;
  readonly traits: Traits;
  readonly #parts: Parts;
  readonly #folders: Folders;
  readonly #context: DriverContext;

  constructor(parts: Parts) {
    const { folders, sharesBlocks, limiter, context } = parts;
    this.home = folders.home;
    const containerOptions = limiter.kind === "none" ? [] : [sizeOption];
    this.traits = { keeps: "whole", maxParents: 125, sharesBlocks, containerOptions };
    this.#parts = parts;
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
    const { sizes, limiter } = this.#parts;
    const size = writableSize(options, sizes, { limiter, words: sizeRefusal });
    if (size === undefined) await this.#make(layer);
    else await this.#makeLimited(layer, size);
    await this.#folders.commit(layer.id);
  }

  /** A copy like any other: of the source instead of the parent. One with a limit is copied through its mount. */
  async cloneWritable(source: LayerRef, { id }: LayerRef, options: Readonly<Record<string, string>>): Promise<boolean> {
    const { sizes, limiter } = this.#parts;
    if (writableSize(options, sizes, { limiter, words: sizeRefusal }) !== undefined) return false;
    if ((await lstat(this.#folders.kept(source.id))).isFile()) return false;
    await this.#make({ id, parents: [source.id] });
    await this.#folders.commit(id);
    return true;
  }

  async mounts({ id }: LayerRef, kind: "layer" | "writable"): Promise<Mounts> {
    const source = this.#folders.kept(id);
    if (kind === "writable" && (await lstat(source)).isFile()) return [imageStep(source)];
    return [{ kind: "bind", source, readonly: kind === "layer" }];
  }

  changes(): undefined {
    return undefined;
  }

  async remove(id: string): Promise<void> {
    if (this.#parts.limiter.kind === "project") releaseFolder(this.#folders.kept(id));
    await this.#folders.discard(id);
  }

  list(): Promise<readonly string[]> {
    return this.#folders.list();
  }

  sweep(signal?: AbortSignal): Promise<number> {
    return sweepTrash(this.#context.pool, this.#folders.trash, signal);
  }

  /** Docker's vfs has no rows; what a container costs here is worth two. */
  async status(): Promise<readonly (readonly [string, string])[]> {
    return [
      ["Backing Filesystem", await filesystemName(this.home)],
      ["Shares Blocks", String(this.traits.sharesBlocks)],
    ];
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

  /** As `#make`, with room for `size` bytes, the parent's among them. */
  async #makeLimited({ id, parents }: LayerRef, size: number): Promise<void> {
    const path = this.#folders.staged(id);
    const [parent] = parents;
    const source = parent === undefined ? undefined : this.#folders.kept(parent);
    try {
      await makeLimitedTree({ path, source, size, limiter: this.#parts.limiter, pool: this.#context.pool });
    } catch (error) {
      if (systemCode(error) !== "EEXIST") await this.#folders.discard(id);
      throw error;
    }
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
