/**
 * The folders of a driver whose layers hold only what they change:
 *
 *   <home>/<id>/diff       what the layer or writable changes
 *   <home>/<id>/work       scratch of the overlay beside a writable's diff
 *   <home>/<id>/image      instead of both: a writable with a size limit, a filesystem that holds them
 *   <home>/staging/<id>    a layer being filled, `trash/<random>` what was removed, `empty` a lower without anything
 *
 * Directories are made in staging and renamed in order, so one that a power cut took was never written in.
 */
import { existsSync } from "node:fs";
import { chmod, mkdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { systemCode } from "../base/errors.ts";
import { fileCreationMask } from "../host/umask.ts";
import type { LayerRef } from "./driver.ts";
import { Folders } from "./folders.ts";
import { copyRootAttributes, type OwnMarks } from "./root-attributes.ts";

/** The name of a writable's filesystem, in its folder. */
export const imageName = "image";

export class DiffFolders {
  readonly home: string;
  readonly #folders: Folders;
  readonly #isMark: OwnMarks;

  constructor(home: string, isMark: OwnMarks) {
    this.home = home;
    this.#folders = new Folders(home, "", ["empty"]);
    this.#isMark = isMark;
  }

  get trash(): string {
    return this.#folders.trash;
  }

  /** Makes the folders; those that exist keep what they hold. */
  async create(): Promise<void> {
    await this.#folders.create();
    await mkdir(this.empty, { recursive: true, mode: 0o755 });
  }

  /** A lower directory without anything. */
  get empty(): string {
    return join(this.home, "empty");
  }

  diff(id: string): string {
    return join(this.#folders.kept(id), "diff");
  }

  /** Of a layer that is being filled. */
  stagedDiff(id: string): string {
    return join(this.#folders.staged(id), "diff");
  }

  kept(id: string): string {
    return this.#folders.kept(id);
  }

  /** Makes a stage whose root has the attributes of its parent's; returns its path. On failure nothing stays. */
  async stage({ id, parents }: LayerRef): Promise<string> {
    const path = this.#folders.staged(id);
    try {
      await makeFolder(path, 0o710);
      const folders = [makeFolder(join(path, "work"), 0o700), makeFolder(join(path, "diff"), 0o755)];
      for (const made of await Promise.allSettled(folders)) if (made.status === "rejected") throw made.reason;
      const [parent] = parents;
      if (parent !== undefined) copyRootAttributes(this.diff(parent), join(path, "diff"), this.#isMark);
    } catch (error) {
      if (systemCode(error) !== "EEXIST") await rm(path, { recursive: true, force: true });
      throw error;
    }
    return path;
  }

  async commit(id: string): Promise<void> {
    await rm(join(this.#folders.staged(id), "work"), { recursive: true, force: true });
    await this.#folders.commit(id);
  }

  /** `prepare` works on the folder before it is in sight. On failure nothing stays. */
  async createWritable(layer: LayerRef, prepare?: (path: string) => Promise<void>): Promise<void> {
    const path = await this.stage(layer);
    try {
      await prepare?.(path);
    } catch (error) {
      await rm(path, { recursive: true, force: true });
      throw error;
    }
    await this.#folders.commit(layer.id);
  }

  /** The filesystem that holds a limited writable, where there is one. One lookup. */
  image(id: string): string | undefined {
    const path = join(this.#folders.kept(id), imageName);
    return existsSync(path) ? path : undefined;
  }

  /** Makes a writable again that a power cut took. */
  async mend(layer: LayerRef): Promise<void> {
    try {
      await stat(this.#folders.kept(layer.id));
    } catch (error) {
      if (systemCode(error) !== "ENOENT") throw error;
      await rm(this.#folders.staged(layer.id), { recursive: true, force: true });
      await this.createWritable(layer);
    }
  }

  discard(id: string): Promise<void> {
    return this.#folders.discard(id);
  }

  list(): Promise<string[]> {
    return this.#folders.list();
  }

  /** Docker's names of the directories of `layer` (moby overlay2.GetMetadata). */
  describe({ id, parents }: LayerRef): Readonly<Record<string, string>> {
    const path = this.#folders.kept(id);
    const image = this.image(id);
    return {
      ...(parents.length === 0 ? {} : { LowerDir: parents.map((parent) => this.diff(parent)).join(":") }),
      MergedDir: join(path, "merged"),
      ...(image === undefined ? { UpperDir: join(path, "diff"), WorkDir: join(path, "work") } : { UpperImage: image }),
    };
  }
}

/** With exactly this mode. */
async function makeFolder(path: string, mode: number): Promise<void> {
  await mkdir(path, { mode });
  if ((mode & fileCreationMask()) !== 0) await chmod(path, mode);
}
