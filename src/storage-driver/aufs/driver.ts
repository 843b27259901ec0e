/**
 * aufs (legacy): each layer is a branch of what it changes, and a kernel that was patched with aufs shows branches as
 * one tree. For hosts that have it still; nobody else is given it, as it is used only when a person names it.
 *
 *   <home>/diff/<id>       what the layer or writable changes; `.wh.<name>` hides a name below (dialect.ts)
 *   <home>/layers/<id>     the ids below it, one a line: for other programs, never read here
 *   <home>/staging/<id>    a layer being filled, `trash/<random>` what was removed
 *
 * The engine mounts elsewhere, so there is no `mnt`. A layer is filled through a union over its parents, so aufs writes
 * the whiteouts; a lowest layer as a plain directory. Changes are found by comparing. A writable that a power cut took
 * before it was ever used is made again by `mounts`.
 */
import { chmod, mkdir, readdir, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { EngineError, systemCode } from "../../base/errors.ts";
import type { MountStep, Mounts } from "../../base/mount.ts";
import { filesystemName } from "../../host/filesystem.ts";
import type { DriverContext, DriverFactory, LayerRef, Stage, StorageDriver, Traits } from "../driver.ts";
import { Folders } from "../folders.ts";
import { copyRootAttributes } from "../root-attributes.ts";
import { sweepTrash } from "../walk.ts";
import { mostParents, unionStep } from "./branches.ts";
import { type Trial, tryAufs } from "./trial.ts";

export const aufs: DriverFactory = {
  name: "aufs",
  async probe(home) {
    return (await tryAufs(home)).reason;
  },
  async open(home, options, context) {
    for (const key of Object.keys(options))
      throw new EngineError("invalid_argument", `aufs: unknown option ${key} (it has none)`);
    const folders = new Folders(home, "diff");
    await folders.create();
    await mkdir(join(home, "layers"), { recursive: true, mode: 0o700 });
    const driver = new Aufs(folders, await tryAufs(folders.trash), context);
    await driver.forgetLost();
    return driver;
  },
};

class Aufs implements StorageDriver {
  readonly name = "aufs";
  readonly home: string;
  readonly traits: Traits = { keeps: "diff", maxParents: mostParents, sharesBlocks: true, containerOptions: [] };
  readonly #folders: Folders;
  readonly #dirperm1: boolean;
  readonly #context: DriverContext;

  constructor(folders: Folders, trial: Trial, context: DriverContext) {
    this.home = folders.home;
    this.#folders = folders;
    this.#dirperm1 = trial.reason === undefined && trial.dirperm1;
    this.#context = context;
  }

  async stage({ id, parents }: LayerRef): Promise<Stage> {
    const path = this.#folders.staged(id);
    await mkdir(path, { mode: 0o755 });
    try {
      await chmod(path, 0o755);
      const [parent] = parents;
      if (parent !== undefined) copyRootAttributes(this.#folders.kept(parent), path, () => false);
      await writeFile(this.#parentsFile(id), parents.map((one) => `${one}\n`).join(""), { mode: 0o600 });
    } catch (error) {
      await this.remove(id);
      throw error;
    }
    return { form: "tree", mounts: [this.#writeStep(path, parents)] };
  }

  async commit({ id }: LayerRef): Promise<void> {
    await this.#folders.commit(id);
  }

  async createWritable(layer: LayerRef, options: Readonly<Record<string, string>>): Promise<void> {
    if (Object.keys(options).length > 0)
      throw new EngineError("invalid_argument", "--storage-opt is not supported for aufs");
    await this.stage(layer);
    await this.commit(layer);
  }

  async mounts(layer: LayerRef, kind: "layer" | "writable"): Promise<Mounts> {
    const own = this.#folders.kept(layer.id);
    if (kind === "writable") {
      await this.#mend(layer);
      return [this.#writeStep(own, layer.parents)];
    }
    if (layer.parents.length === 0) return [{ kind: "bind", source: own, readonly: true }];
    return [unionStep({ layers: [own, ...this.#below(layer.parents)], dirperm1: this.#dirperm1 })];
  }

  changes(): undefined {
    return undefined;
  }

  async remove(id: string): Promise<void> {
    await this.#folders.discard(id);
    await rm(this.#parentsFile(id), { force: true });
  }

  list(): Promise<readonly string[]> {
    return this.#folders.list();
  }

  sweep(signal?: AbortSignal): Promise<number> {
    return sweepTrash(this.#context.pool, this.#folders.trash, signal);
  }

  /** Docker's rows, in Docker's order (moby v20.10 aufs.Status). */
  async status(): Promise<readonly (readonly [string, string])[]> {
    return [
      ["Root Dir", this.home],
      ["Backing Filesystem", await filesystemName(this.home)],
      ["Dirs", String((await this.list()).length)],
      ["Dirperm1 Supported", String(this.#dirperm1)],
    ];
  }

  /** Docker's aufs told nothing. */
  describe(): Readonly<Record<string, string>> {
    return {};
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  /** Takes away the lists of layers that a power cut took. */
  async forgetLost(): Promise<void> {
    const known = new Set(await this.list());
    for (const name of await readdir(join(this.home, "layers")))
      if (!known.has(name)) await rm(join(this.home, "layers", name), { recursive: true, force: true });
  }

  #below(parents: readonly string[]): readonly string[] {
    return parents.map((id) => this.#folders.kept(id));
  }

  #writeStep(path: string, parents: readonly string[]): MountStep {
    if (parents.length === 0) return { kind: "bind", source: path, readonly: false };
    return unionStep({ layers: this.#below(parents), writable: path, dirperm1: this.#dirperm1 });
  }

  #parentsFile(id: string): string {
    return join(this.home, "layers", id);
  }

  async #mend(layer: LayerRef): Promise<void> {
    try {
      await stat(this.#folders.kept(layer.id));
    } catch (error) {
      if (systemCode(error) !== "ENOENT") throw error;
      await rm(this.#folders.staged(layer.id), { recursive: true, force: true });
      await this.createWritable(layer, {});
    }
  }
}
