/**
 * The local driver: a volume is a directory of this machine, below the data root, laid out as dockerd lays it out.
 *
 *     <root>/volumes/                   0701
 *       <name>/                         0701  made last of all by rename, so that it is there whole or not at all
 *         _data/                        0755  what containers see
 *         opts.json                     0600  what is mounted on _data, where options say so
 *       .new-<hex>/, .gone-<hex>/             half-made and removed volumes; swept when the driver opens
 *
 * A use is a row in memory that keeps `remove` away. With options the first use mounts and the last unmounts; a mount
 * that an earlier life of the engine left is taken up again. `_data` is never looked into here: what is mounted there may
 * never answer. Names are one path component by `validate`.
 */
import { randomBytes } from "node:crypto";
import { chmod, lstat, mkdir, readdir, rename } from "node:fs/promises";
import { join } from "node:path";
import { archiveTasks } from "../../archive/task-url.ts";
import { EngineError, errorCode, errorMessage, systemCode } from "../../base/errors.ts";
import { syncDirectory, writeFileDurably } from "../../host/durable.ts";
import { isMountPoint, unmountAllAsync } from "../../host/mount.ts";
import type { Pool } from "../../host/pool.ts";
import type { VolumeDescription, VolumeDriver, VolumeSpec } from "../driver.ts";
import { mountLocal } from "./mounting.ts";
import { type LocalMount, parseOptions, validateName } from "./validate.ts";

const tasks = new URL("./discard-task.ts", import.meta.url);

class LocalDriver implements VolumeDriver {
  readonly name = "local";
  readonly traits = { scope: "local", prunable: true, ownsParent: true } as const;
  readonly #directory: string;
  readonly #pool: Pool;
  /** Volume -> the ids of its uses. */
  readonly #uses = new Map<string, Set<string>>();

  constructor(directory: string, pool: Pool) {
    this.#directory = directory;
    this.#pool = pool;
  }

  validate({ name, options }: VolumeSpec): void {
    validateName(name);
    parseOptions(options);
  }

  async create(spec: VolumeSpec): Promise<void> {
    this.validate(spec);
    if (await this.#has(spec)) return;
    const staging = join(this.#directory, `.new-${randomBytes(8).toString("hex")}`);
    try {
      await makeDirectory(staging, 0o701);
      await makeDirectory(join(staging, "_data"), 0o755);
      const mount = parseOptions(spec.options);
      if (mount !== undefined) await writeFileDurably(join(staging, "opts.json"), encodeOptions(mount));
      await syncDirectory(staging);
      await rename(staging, this.#pathOf(spec)).catch(async (error: unknown) => {
        // Lost a race against another create of the same name: its volume is as good.
        if (!(await this.#has(spec))) throw error;
        await this.#discard(staging);
      });
      await syncDirectory(this.#directory);
    } catch (error) {
      await this.#discard(staging);
      throw error;
    }
  }

  async remove(spec: VolumeSpec): Promise<void> {
    validateName(spec.name);
    if ((this.#uses.get(spec.name)?.size ?? 0) > 0)
      throw new EngineError("conflict", "volume has active mounts; stop the containers that use it first");
    await this.#unmount(spec);
    const trash = join(this.#directory, `.gone-${randomBytes(8).toString("hex")}`);
    try {
      await rename(this.#pathOf(spec), trash);
    } catch (error) {
      if (systemCode(error) === "ENOENT") return;
      throw error;
    }
    await syncDirectory(this.#directory);
    await this.#discard(trash);
  }

  async mount(spec: VolumeSpec, use: string): Promise<string> {
    await this.describe(spec);
    const path = this.#dataOf(spec);
    const uses = this.#uses.get(spec.name) ?? new Set();
    const mount = parseOptions(spec.options);
    if (mount !== undefined && !isMountPoint(path)) await this.#mount(mount, path);
    this.#uses.set(spec.name, uses.add(use));
    return path;
  }

  async #mount(mount: LocalMount, path: string): Promise<void> {
    try {
      await mountLocal(this.#pool, mount, path);
    } catch (cause) {
      throw new EngineError(errorCode(cause), `error while mounting volume '${path}': ${errorMessage(cause)}`, {
        cause,
      });
    }
  }

  async unmount(spec: VolumeSpec, use: string): Promise<void> {
    const uses = this.#uses.get(spec.name);
    if (uses === undefined || !uses.delete(use) || uses.size > 0) return;
    this.#uses.delete(spec.name);
    await this.#unmount(spec);
  }

  async settle(): Promise<void> {
    for (const name of await this.list()) if (!this.#uses.has(name)) await this.#unmount({ name });
  }

  async #unmount(spec: Pick<VolumeSpec, "name">): Promise<void> {
    if (isMountPoint(this.#dataOf(spec))) await unmountAllAsync(this.#dataOf(spec));
  }

  async describe(spec: VolumeSpec): Promise<VolumeDescription> {
    validateName(spec.name);
    try {
      const { birthtime } = await lstat(this.#pathOf(spec));
      if (!(await this.#has(spec))) throw missing(this.#dataOf(spec));
      return { mountpoint: this.#dataOf(spec), createdAt: birthtime.toISOString(), status: undefined };
    } catch (error) {
      if (systemCode(error) !== "ENOENT") throw error;
      throw missing(this.#dataOf(spec));
    }
  }

  async usage(spec: VolumeSpec, signal?: AbortSignal): Promise<number | undefined> {
    validateName(spec.name);
    // What is mounted there is somebody else's, may be far away, and is counted nowhere (as in Docker).
    if (parseOptions(spec.options) !== undefined) return undefined;
    const { bytes } = await this.#pool.run<{ path: string }, { bytes: number }>(
      archiveTasks,
      "treeSizeTask",
      { path: this.#dataOf(spec) },
      signal === undefined ? {} : { signal },
    );
    return bytes;
  }

  async list(): Promise<readonly string[]> {
    const entries = await readdir(this.#directory);
    const names = entries.filter((name) => !name.startsWith("."));
    const found = await Promise.all(names.map((name) => this.#has({ name })));
    return names.filter((_, index) => found[index]).sort();
  }

  /** Takes away what a crash left behind. */
  async sweep(): Promise<void> {
    for (const name of await readdir(this.#directory))
      if (name.startsWith(".new-") || name.startsWith(".gone-")) await this.#discard(join(this.#directory, name));
  }

  async #discard(path: string): Promise<void> {
    await this.#pool.run(tasks, "discardTask", path);
  }

  /** What is mounted is there, and is not asked. */
  async #has({ name }: Pick<VolumeSpec, "name">): Promise<boolean> {
    const path = join(this.#directory, name, "_data");
    return isMountPoint(path) || (await isDirectory(path));
  }

  #pathOf = (spec: Pick<VolumeSpec, "name">): string => join(this.#directory, spec.name);
  #dataOf = (spec: Pick<VolumeSpec, "name">): string => join(this.#directory, spec.name, "_data");
}

/** Opens the driver over `<root>/volumes`, which is made when missing. */
export async function openLocalDriver(options: { readonly root: string; readonly pool: Pool }): Promise<VolumeDriver> {
  const directory = join(options.root, "volumes");
  await mkdir(options.root, { recursive: true });
  await makeDirectory(directory, 0o701);
  await syncDirectory(options.root);
  const driver = new LocalDriver(directory, options.pool);
  await driver.sweep();
  return driver;
}

/** The mode is exactly `mode`, whatever the umask; an existing directory is set to it as well. */
async function makeDirectory(path: string, mode: number): Promise<void> {
  await mkdir(path, { mode }).catch((error: unknown) => {
    if (systemCode(error) !== "EEXIST") throw error;
  });
  await chmod(path, mode);
}

async function isDirectory(path: string): Promise<boolean> {
  const found = await lstat(path).catch((error: unknown) => {
    if (systemCode(error) === "ENOENT" || systemCode(error) === "ENOTDIR") return undefined;
    throw error;
  });
  return found?.isDirectory() === true;
}

const missing = (path: string): EngineError =>
  new EngineError("not_found", `no such volume: the directory ${path} is gone`);

/** moby's file of the same name. */
const encodeOptions = ({ type, device, o }: LocalMount): string =>
  JSON.stringify({ MountType: type, MountOpts: o, MountDevice: device, Quota: { Size: 0 } });
