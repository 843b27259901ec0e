/**
 * fuse-overlayfs: the layout of overlay2, shown as one tree by the program fuse-overlayfs instead of the kernel. For
 * hosts whose kernel cannot lay an overlay over the filesystem at hand; each mount is served by a process of its own,
 * which costs time on every access.
 *
 *   <home>/<id>/diff       what the layer or writable changes (whiteouts are 0:0 character devices)
 *   <home>/<id>/work       the program's scratch beside a writable's diff
 *   <home>/<id>/image      instead of both: a filesystem that holds them, of a writable with a size limit
 *   <home>/staging/<id>    a layer being filled, `trash/<random>` what was removed, `empty` a lower without anything
 *
 * Every tree is shown by the program, and filled through it, but for the lowest, which is a plain directory. No attribute or
 * file name of an image can pass for one of the program's own marks: who fills a layer refuses those. Changes are found
 * by comparing, as its marks are not overlayfs'.
 */
import { join, relative } from "node:path";
import { EngineError } from "../../base/errors.ts";
import type { MountStep, Mounts } from "../../base/mount.ts";
import { findLimiter, type Limiter } from "../../host/limiter.ts";
import { releaseFolder } from "../../host/project-limit.ts";
import { imageStep } from "../../host/size-image.ts";
import { DiffFolders } from "../diff-folders.ts";
import type { DriverContext, DriverFactory, LayerRef, Stage, StorageDriver, Traits } from "../driver.ts";
import { createLimited } from "../limited-folders.ts";
import { limitRules, writableSize } from "../limiter.ts";
import { checkedSize, type SizeRules, sizeOption } from "../size-limit.ts";
import { sweepTrash } from "../walk.ts";
import { isOwnMark, ownMarks, serve } from "./serve.ts";
import { tryFuseOverlay } from "./trial.ts";

const tasks = new URL("./origin-task.ts", import.meta.url);

export const fuseOverlayfs: DriverFactory = {
  name: "fuse-overlayfs",
  probe: tryFuseOverlay,
  async open(home, options, context) {
    const asked = parseOptions(options);
    const folders = new DiffFolders(home, isOwnMark);
    await folders.create();
    const limiter = await findLimiter(home);
    return new FuseOverlayfs({ folders, sizes: limitRules(asked, limiter), limiter, context });
  },
};

/** The daemon's option: `fuse-overlayfs.size`. Throws invalid_argument for one that is unknown or no size. */
function parseOptions(options: Readonly<Record<string, string>>): SizeRules {
  let rules: SizeRules = { driver: "fuse-overlayfs" };
  for (const [key, value] of Object.entries(options)) {
    if (key !== "fuse-overlayfs.size")
      throw new EngineError("invalid_argument", `fuse-overlayfs: unknown option ${key}; known is fuse-overlayfs.size`);
    rules = { ...rules, standard: checkedSize(value, rules) };
  }
  return rules;
}

type Parts = {
  readonly folders: DiffFolders;
  readonly sizes: SizeRules;
  readonly limiter: Limiter;
  readonly context: DriverContext;
};

/** Docker's words where a limit cannot be kept. */
const sizeRefusal = "--storage-opt is not supported for fuse-overlayfs";

class FuseOverlayfs implements StorageDriver {
  readonly name = "fuse-overlayfs";
  readonly home: string;
  readonly traits: Traits;
  readonly #parts: Parts;
  readonly #folders: DiffFolders;
  readonly #context: DriverContext;

  constructor(parts: Parts) {
    const { folders, limiter, context } = parts;
    const containerOptions = limiter.kind === "none" ? [] : [sizeOption];
    this.traits = { keeps: "diff", maxParents: 128, sharesBlocks: true, containerOptions, forgetsAttributes: true };
    this.home = folders.home;
    this.#parts = parts;
    this.#folders = folders;
    this.#context = context;
  }

  async stage(layer: LayerRef): Promise<Stage> {
    const path = await this.#folders.stage(layer);
    const plain: MountStep = { kind: "bind", source: join(path, "diff"), readonly: false };
    const mounts = [layer.parents.length === 0 ? plain : this.#serve(layer.parents, path)];
    return { form: "tree", mounts, refusedXattrs: ownMarks };
  }

  async commit({ id }: LayerRef): Promise<void> {
    const directory = this.#folders.stagedDiff(id);
    await this.#context.pool.run<{ directory: string }, void>(tasks, "dropOriginsTask", { directory });
    await this.#folders.commit(id);
  }

  async createWritable(layer: LayerRef, options: Readonly<Record<string, string>>): Promise<void> {
    const { sizes, limiter } = this.#parts;
    const size = writableSize(options, sizes, { limiter, words: sizeRefusal });
    if (size === undefined) await this.#folders.createWritable(layer);
    else await createLimited(this.#folders, layer, { size, limiter, isMark: isOwnMark });
  }

  async mounts(layer: LayerRef, kind: "layer" | "writable"): Promise<Mounts> {
    if (kind === "layer") return [this.#serve([layer.id, ...layer.parents])];
    await this.#folders.mend(layer);
    const image = this.#folders.image(layer.id);
    if (image !== undefined) return [imageStep(image), this.#serve(layer.parents, "{target}")];
    return [this.#serve(layer.parents, this.#folders.kept(layer.id))];
  }

  changes(): undefined {
    return undefined;
  }

  async remove(id: string): Promise<void> {
    if (this.#parts.limiter.kind === "project") releaseFolder(this.#folders.diff(id));
    await this.#folders.discard(id);
  }

  list(): Promise<readonly string[]> {
    return this.#folders.list();
  }

  sweep(signal?: AbortSignal): Promise<number> {
    return sweepTrash(this.#context.pool, this.#folders.trash, signal);
  }

  /** Docker's fuse-overlayfs has no rows. */
  async status(): Promise<readonly (readonly [string, string])[]> {
    return [];
  }

  describe(layer: LayerRef): Readonly<Record<string, string>> {
    return this.#folders.describe(layer);
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  /**
   * Paths go relative to the home: many of them fit into one argument, and its name may hold a comma. `writable` is a
   * writable's folder, or the filesystem that was mounted on the target.
   */
  #serve(layers: readonly string[], writable?: string): MountStep {
    const near = (path: string): string => (path.startsWith("{target}") ? path : relative(this.home, path));
    const lower = layers.map((id) => near(this.#folders.diff(id)));
    if (lower.length === 0) lower.push(near(this.#folders.empty));
    if (writable === undefined) return serve(this.home, lower);
    return serve(this.home, lower, { diff: near(join(writable, "diff")), work: near(join(writable, "work")) });
  }
}
