/**
 * overlay2: each layer is a directory of what it changes, and the kernel's overlayfs shows them as one tree.
 *
 *   <home>/<id>/diff       what the layer or writable changes (whiteouts are 0:0 character devices)
 *   <home>/<id>/work       the kernel's scratch beside a writable's diff
 *   <home>/<id>/image      instead of both: a filesystem that holds them, of a writable with a size limit (limited-folders.ts)
 *   <home>/<id>/unsynced   its changes are not on the disk yet (unsynced.ts)
 *   <home>/staging/<id>    a layer being filled, `trash/<random>` what was removed, `empty` a lower without anything
 *
 * A layer is filled through a mount over its parents, so the kernel writes every whiteout and opaque mark; a lowest
 * layer is filled as a plain directory, with the overlay xattrs of an image escaped. Promises: no mount is held here; a
 * writable that a power cut took before it was ever used is made again by `mounts`.
 */
import { rmdir } from "node:fs/promises";
import { join } from "node:path";
import { EngineError } from "../../base/errors.ts";
import type { MountStep, Mounts } from "../../base/mount.ts";
import { filesystemName } from "../../host/filesystem.ts";
import { findLimiter, type Limiter } from "../../host/limiter.ts";
import { releaseFolder } from "../../host/project-limit.ts";
import { imageStep } from "../../host/size-image.ts";
import { inUserNamespace, overlayMarkPrefix } from "../../host/user-namespace.ts";
import { DiffFolders } from "../diff-folders.ts";
import type {
  ChangesDirectory,
  DiffMarks,
  DriverContext,
  DriverFactory,
  LayerRef,
  Stage,
  StorageDriver,
  Traits,
} from "../driver.ts";
import { createLimited } from "../limited-folders.ts";
import { limitRules, writableSize } from "../limiter.ts";
import type { OwnMarks } from "../root-attributes.ts";
import { type SizeRules, sizeOption } from "../size-limit.ts";
import { copyTree, sweepTrash } from "../walk.ts";
import { mountOptions, parseDaemonOptions, sizeRefusal } from "./options.ts";
import { type Trial, tryOverlay } from "./trial.ts";
import { endUnsynced, isUnsynced, prepareUse } from "./unsynced.ts";

export const overlay2: DriverFactory = {
  name: "overlay2",
  async probe(home) {
    return (await tryOverlay(home, await mountOptions())).reason;
  },
  async open(home, options, context) {
    const asked = parseDaemonOptions(options);
    const folders = new DiffFolders(home, isMark);
    await folders.create();
    const overlay = await mountOptions();
    const limiter = await findLimiter(home, overlay);
    const sizes = limitRules(asked, limiter);
    const trial = await tryOverlay(folders.trash, overlay);
    if (asked.volatile && (trial.reason !== undefined || !trial.volatile))
      throw new EngineError(
        "unsupported",
        "Storage option overlay2.volatile not supported: Linux 5.10 or later has it",
      );
    return new Overlay2({ folders, overlay, limiter, sizes, trial, volatile: asked.volatile, context });
  },
};

/** The kernel's; an escaped one (trusted.overlay.overlay.x) is the image's own. */
const isMark: OwnMarks = (attribute) =>
  attribute.startsWith(overlayMarkPrefix()) && !attribute.startsWith(`${overlayMarkPrefix()}overlay.`);

/** Lower layers of one overlay (the kernel's OVL_MAX_STACK), where they are told one by one (Linux 6.8). */
const mostAppended = 500;
/** As many as short links of any length name in the one page that mount(2) reads; dockerd's number as well. */
const mostInAPage = 128;

type Parts = {
  readonly folders: DiffFolders;
  readonly overlay: readonly string[];
  readonly trial: Trial;
  readonly limiter: Limiter;
  readonly sizes: SizeRules;
  /** Containers' mounts do not sync. */
  readonly volatile: boolean;
  readonly context: DriverContext;
};

class Overlay2 implements StorageDriver {
  readonly name = "overlay2";
  readonly home: string;
  readonly traits: Traits;
  readonly diffMarks: DiffMarks = {
    dialect: "overlay",
    opaque: { attribute: `${overlayMarkPrefix()}opaque`, value: "y" },
  };
  readonly #parts: Parts;
  readonly #folders: DiffFolders;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#folders = parts.folders;
    this.home = parts.folders.home;
    const { trial, limiter } = parts;
    const maxParents = trial.reason === undefined && trial.appends ? mostAppended : mostInAPage;
    const containerOptions = limiter.kind === "none" ? [] : [sizeOption];
    this.traits = { keeps: "diff", maxParents, sharesBlocks: true, containerOptions };
  }

  async stage(layer: LayerRef): Promise<Stage> {
    const { parents } = layer;
    const path = await this.#folders.stage(layer);
    const prefix = overlayMarkPrefix();
    if (parents.length === 0)
      return {
        form: "tree",
        mounts: [{ kind: "bind", source: join(path, "diff"), readonly: false }],
        escapeXattrs: { from: prefix, to: `${prefix}overlay.` },
      };
    // A stage that a power cut meets is thrown away as a whole, so its mount need not sync: publishing syncs once.
    const { trial, overlay } = this.#parts;
    const options = trial.reason === undefined && trial.volatile ? [...overlay, "volatile"] : overlay;
    return { form: "tree", mounts: [this.#writeStep(path, parents, options)] };
  }

  async commit({ id }: LayerRef): Promise<void> {
    await this.#folders.commit(id);
  }

  async createWritable(layer: LayerRef, options: Readonly<Record<string, string>>): Promise<void> {
    const { sizes, limiter } = this.#parts;
    const size = writableSize(options, sizes, { limiter, words: sizeRefusal });
    if (size === undefined) await this.#folders.createWritable(layer);
    else await createLimited(this.#folders, layer, { size, limiter, isMark });
  }

  /** The upper is copied as it stands, marks and all: it lies over the same layers. One in a file is copied through its mount. */
  async cloneWritable(source: LayerRef, layer: LayerRef, options: Readonly<Record<string, string>>): Promise<boolean> {
    const { sizes, limiter, context } = this.#parts;
    if (writableSize(options, sizes, { limiter, words: sizeRefusal }) !== undefined) return false;
    await this.#folders.mend(source);
    if (this.#folders.image(source.id) !== undefined) return false;
    // What may be torn does not become a copy that looks whole.
    await isUnsynced(this.#folders.kept(source.id));
    await this.#folders.createWritable(layer, async (path) => {
      await rmdir(join(path, "diff"));
      await copyTree(context.pool, this.#folders.diff(source.id), join(path, "diff"));
    });
    return true;
  }

  async mounts({ id, parents }: LayerRef, kind: "layer" | "writable"): Promise<Mounts> {
    if (kind === "writable") {
      await this.#folders.mend({ id, parents });
      const image = this.#folders.image(id);
      if (image !== undefined) return [imageStep(image), this.#overImage(parents)];
      const { overlay } = this.#parts;
      const options = (await isUnsynced(this.#folders.kept(id))) ? [...overlay, "volatile"] : overlay;
      return [this.#writeStep(this.#folders.kept(id), parents, options)];
    }
    const lower = [id, ...parents].map((layer) => this.#folders.diff(layer));
    // overlayfs wants two lowers; a bind would show the escaped names of an image's overlay xattrs.
    if (lower.length === 1) lower.push(this.#folders.empty);
    return [{ kind: "overlay", lower, options: this.#parts.overlay }];
  }

  /** A limited writable in a file is synced as ever: its filesystem is its own. */
  async beforeUse(layer: LayerRef): Promise<void> {
    await this.#folders.mend(layer);
    if (layer.parents.length === 0 || this.#folders.image(layer.id) !== undefined) return;
    await prepareUse(this.home, this.#folders.kept(layer.id), this.#parts.volatile);
  }

  async afterUse({ id }: LayerRef): Promise<void> {
    await endUnsynced(this.home, this.#folders.kept(id));
  }

  changes({ id }: LayerRef): ChangesDirectory {
    const image = this.#folders.image(id);
    if (image !== undefined) return { path: "diff", mounts: [imageStep(image)], dialect: "overlay" };
    return { path: this.#folders.diff(id), dialect: "overlay" };
  }

  async remove(id: string): Promise<void> {
    if (this.#parts.limiter.kind === "project") releaseFolder(this.#folders.diff(id));
    await this.#folders.discard(id);
  }

  list(): Promise<readonly string[]> {
    return this.#folders.list();
  }

  sweep(signal?: AbortSignal): Promise<number> {
    return sweepTrash(this.#parts.context.pool, this.#folders.trash, signal);
  }

  /** Docker's rows, in Docker's order (moby overlay2.Status). */
  async status(): Promise<readonly (readonly [string, string])[]> {
    const works = this.#parts.trial.reason === undefined;
    return [
      ["Backing Filesystem", await filesystemName(this.home)],
      ["Supports d_type", String(works)],
      ["Using metacopy", "false"],
      ["Native Overlay Diff", String(works)],
      ["userxattr", String(inUserNamespace())],
      ...(this.#parts.volatile ? [["Volatile", "true"] as const] : []),
    ];
  }

  describe(layer: LayerRef): Readonly<Record<string, string>> {
    return this.#folders.describe(layer);
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  #writeStep(path: string, parents: readonly string[], options: readonly string[]): MountStep {
    if (parents.length === 0) return { kind: "bind", source: join(path, "diff"), readonly: false };
    const lower = parents.map((parent) => this.#folders.diff(parent));
    return { kind: "overlay", lower, upper: join(path, "diff"), work: join(path, "work"), options };
  }

  /** Over the filesystem of a limited writable, which the step before has mounted. */
  #overImage(parents: readonly string[]): MountStep {
    const lower = parents.map((parent) => this.#folders.diff(parent));
    if (lower.length === 0) lower.push(this.#folders.empty);
    return { kind: "overlay", lower, upper: "diff", work: "work", options: this.#parts.overlay };
  }
}
