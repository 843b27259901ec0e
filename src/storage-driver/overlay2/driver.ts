/**
 * overlay2: each layer is a directory of what it changes, and the kernel's overlayfs shows them as one tree.
 *
 *   <home>/<id>/diff       what the layer or writable changes (whiteouts are 0:0 character devices)
 *   <home>/<id>/work       the kernel's scratch beside a writable's diff
 *   <home>/staging/<id>    a layer being filled, `trash/<random>` what was removed, `empty` a lower without anything
 *
 * A layer is filled through a mount over its parents, so the kernel writes every whiteout and opaque mark; a lowest
 * layer is filled as a plain directory, with the overlay xattrs of an image escaped. Promises: no mount is held here; a
 * writable that a power cut took before it was ever used is made again by `mounts`.
 */
import { chmod, mkdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { systemCode } from "../../base/errors.ts";
import type { MountStep, Mounts } from "../../base/mount.ts";
import type {
  ChangesDirectory,
  DriverContext,
  DriverFactory,
  LayerRef,
  Stage,
  StorageDriver,
  Traits,
} from "../driver.ts";
import { filesystemName } from "../filesystem.ts";
import { Folders } from "../folders.ts";
import { sweepTrash } from "../walk.ts";
import { checkContainerOptions, checkDaemonOptions, inUserNamespace, mountOptions } from "./options.ts";
import { copyRootAttributes } from "./root-attributes.ts";
import { type Trial, tryOverlay } from "./trial.ts";

export const overlay2: DriverFactory = {
  name: "overlay2",
  async probe(home) {
    return (await tryOverlay(home, await mountOptions())).reason;
  },
  async open(home, options, context) {
    checkDaemonOptions(options);
    const folders = new Folders(home, "", ["empty"]);
    await folders.create();
    await mkdir(join(home, "empty"), { recursive: true, mode: 0o755 });
    const overlay = await mountOptions();
    return new Overlay2({ folders, overlay, trial: await tryOverlay(folders.trash, overlay), context });
  },
};

type Parts = {
  readonly folders: Folders;
  readonly overlay: readonly string[];
  readonly trial: Trial;
  readonly context: DriverContext;
};

class Overlay2 implements StorageDriver {
  readonly name = "overlay2";
  readonly home: string;
  readonly traits: Traits = { keeps: "diff", maxParents: 500, sharesBlocks: true, containerOptions: [] };
  readonly #parts: Parts;
  readonly #folders: Folders;
  readonly #userxattr = inUserNamespace();

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#folders = parts.folders;
    this.home = parts.folders.home;
  }

  async stage({ id, parents }: LayerRef): Promise<Stage> {
    const path = this.#folders.staged(id);
    await this.#make(path, parents);
    const prefix = this.#prefix();
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
    await rm(join(this.#folders.staged(id), "work"), { recursive: true, force: true });
    await this.#folders.commit(id);
  }

  async createWritable({ id, parents }: LayerRef, options: Readonly<Record<string, string>>): Promise<void> {
    checkContainerOptions(options);
    await this.#make(this.#folders.staged(id), parents);
    await this.#folders.commit(id);
  }

  async mounts({ id, parents }: LayerRef, kind: "layer" | "writable"): Promise<Mounts> {
    if (kind === "writable") {
      await this.#mend({ id, parents });
      return [this.#writeStep(this.#folders.kept(id), parents, this.#parts.overlay)];
    }
    const lower = [id, ...parents].map((layer) => this.#diff(layer));
    // overlayfs wants two lowers; a bind would show the escaped names of an image's overlay xattrs.
    if (lower.length === 1) lower.push(join(this.home, "empty"));
    return [{ kind: "overlay", lower, options: this.#parts.overlay }];
  }

  changes({ id }: LayerRef): ChangesDirectory {
    return { path: this.#diff(id), dialect: "overlay" };
  }

  async remove(id: string): Promise<void> {
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
      ["userxattr", String(this.#userxattr)],
    ];
  }

  describe({ id, parents }: LayerRef): Readonly<Record<string, string>> {
    const path = this.#folders.kept(id);
    return {
      ...(parents.length === 0 ? {} : { LowerDir: parents.map((parent) => this.#diff(parent)).join(":") }),
      MergedDir: join(path, "merged"),
      UpperDir: join(path, "diff"),
      WorkDir: join(path, "work"),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  #diff(id: string): string {
    return join(this.#folders.kept(id), "diff");
  }

  #prefix(): string {
    return this.#userxattr ? "user.overlay." : "trusted.overlay.";
  }

  #writeStep(path: string, parents: readonly string[], options: readonly string[]): MountStep {
    if (parents.length === 0) return { kind: "bind", source: join(path, "diff"), readonly: false };
    const lower = parents.map((parent) => this.#diff(parent));
    return { kind: "overlay", lower, upper: join(path, "diff"), work: join(path, "work"), options };
  }

  async #make(path: string, parents: readonly string[]): Promise<void> {
    try {
      await mkdir(path, { mode: 0o710 });
      await mkdir(join(path, "work"), { mode: 0o700 });
      await mkdir(join(path, "diff"), { mode: 0o755 });
      // Whatever the umask says.
      await chmod(path, 0o710);
      await chmod(join(path, "diff"), 0o755);
      const [parent] = parents;
      if (parent !== undefined) copyRootAttributes(this.#diff(parent), join(path, "diff"), this.#prefix());
    } catch (error) {
      if (systemCode(error) !== "EEXIST") await rm(path, { recursive: true, force: true });
      throw error;
    }
  }

  /** Directories are made and renamed in order, so a missing one means that nothing was ever written in it. */
  async #mend({ id, parents }: LayerRef): Promise<void> {
    try {
      await stat(this.#folders.kept(id));
    } catch (error) {
      if (systemCode(error) !== "ENOENT") throw error;
      await rm(this.#folders.staged(id), { recursive: true, force: true });
      await this.#make(this.#folders.staged(id), parents);
      await this.#folders.commit(id);
    }
  }
}
