/**
 * fuse-overlayfs: the layout of overlay2, shown as one tree by the program fuse-overlayfs instead of the kernel. For
 * hosts whose kernel cannot lay an overlay over the filesystem at hand; each mount is served by a process of its own,
 * which costs time on every access.
 *
 *   <home>/<id>/diff       what the layer or writable changes (whiteouts are 0:0 character devices)
 *   <home>/<id>/work       the program's scratch beside a writable's diff
 *   <home>/staging/<id>    a layer being filled, `trash/<random>` what was removed, `empty` a lower without anything
 *
 * Every tree is shown by the program, and filled through it, but for the lowest, which is a plain directory. No attribute or
 * file name of an image can pass for one of the program's own marks: who fills a layer refuses those. Changes are found
 * by comparing, as its marks are not overlayfs'.
 */
import { join, relative } from "node:path";
import { EngineError } from "../../base/errors.ts";
import type { MountStep, Mounts } from "../../base/mount.ts";
import { DiffFolders } from "../diff-folders.ts";
import type { DriverContext, DriverFactory, LayerRef, Stage, StorageDriver, Traits } from "../driver.ts";
import { sweepTrash } from "../walk.ts";
import { isOwnMark, ownMarks, serve } from "./serve.ts";
import { tryFuseOverlay } from "./trial.ts";

const tasks = new URL("./origin-task.ts", import.meta.url);

export const fuseOverlayfs: DriverFactory = {
  name: "fuse-overlayfs",
  probe: tryFuseOverlay,
  async open(home, options, context) {
    for (const key of Object.keys(options))
      throw new EngineError("invalid_argument", `fuse-overlayfs: unknown option ${key} (it has none)`);
    const folders = new DiffFolders(home, isOwnMark);
    await folders.create();
    return new FuseOverlayfs(folders, context);
  },
};

class FuseOverlayfs implements StorageDriver {
  readonly name = "fuse-overlayfs";
  readonly home: string;
  readonly traits: Traits = {
    keeps: "diff",
    maxParents: 128,
    sharesBlocks: true,
    containerOptions: [],
    forgetsAttributes: true,
  };
  readonly #folders: DiffFolders;
  readonly #context: DriverContext;

  constructor(folders: DiffFolders, context: DriverContext) {
    this.home = folders.home;
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
    if (Object.keys(options).length > 0)
      throw new EngineError("invalid_argument", "--storage-opt is not supported for fuse-overlayfs");
    await this.#folders.createWritable(layer);
  }

  async mounts(layer: LayerRef, kind: "layer" | "writable"): Promise<Mounts> {
    if (kind === "layer") return [this.#serve([layer.id, ...layer.parents])];
    await this.#folders.mend(layer);
    return [this.#serve(layer.parents, this.#folders.kept(layer.id))];
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

  /** Docker's fuse-overlayfs has no rows. */
  async status(): Promise<readonly (readonly [string, string])[]> {
    return [];
  }

  describe(layer: LayerRef): Readonly<Record<string, string>> {
    return this.#folders.describe(layer);
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  /** Paths go relative to the home: many of them fit into one argument, and its name may hold a comma. */
  #serve(layers: readonly string[], writable?: string): MountStep {
    const near = (path: string): string => relative(this.home, path);
    const lower = layers.map((id) => near(this.#folders.diff(id)));
    if (lower.length === 0) lower.push(near(this.#folders.empty));
    if (writable === undefined) return serve(this.home, lower);
    return serve(this.home, lower, { diff: near(join(writable, "diff")), work: near(join(writable, "work")) });
  }
}
