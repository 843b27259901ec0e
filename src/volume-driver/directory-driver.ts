/**
 * Volumes that are directories of this machine, laid out as dockerd lays out its own, and what their options mount on
 * them. Every driver that mounts something is a kind of this one: it only says what.
 *
 *     <folder>/                         0701
 *       <name>/                         0701  made last of all by rename, so that it is there whole or not at all
 *         _data/                        0755  what containers see
 *         opts.json                     0600  what is mounted on _data, where the kind keeps it there
 *       .new-<hex>/, .gone-<hex>/             half-made and removed volumes; swept when the driver opens
 *
 * A use is a row in memory that keeps `remove` away. The first use mounts and the last unmounts; a mount that an earlier
 * life of the engine left is taken up again. `_data` is never looked into here: what is mounted there may never answer.
 */
import { randomBytes } from "node:crypto";
import { lstat, mkdir, readdir, readFile, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { archiveTasks } from "../archive/task-url.ts";
import { EngineError, errorCode, errorMessage, systemCode } from "../base/errors.ts";
import { parseSize } from "../base/size.ts";
import { syncDirectory, syncFilesystem, writeFileDurably } from "../host/durable.ts";
import { isMountPoint, mountTable, unmountAllAsync } from "../host/mount.ts";
import { NameLocks } from "../host/name-locks.ts";
import type { Pool } from "../host/pool.ts";
import { Remote } from "../host/remote.ts";
import { isRemoteType } from "../host/remote-path.ts";
import type { ContentSource, VolumeContent } from "./content.ts";
import { isDirectory, makeDirectory } from "./directories.ts";
import { changesOf, type DirectoryKind } from "./directory-kind.ts";
import { directorySnapshots } from "./directory-snapshots.ts";
import type {
  Requirement,
  VolumeDescription,
  VolumeDriver,
  VolumeSnapshots,
  VolumeSpec,
  VolumeTraits,
} from "./driver.ts";
import { mountVolume } from "./mounting.ts";
import { ProgramMounts, type ProgramPlace } from "./program-mount.ts";
import { mountsRemote } from "./remote.ts";
import { refuseMissing } from "./requirements.ts";
import { secretsFolder } from "./secret-reference.ts";
import { VolumeUses } from "./uses.ts";
import { validateName } from "./volume-name.ts";

export type { DirectoryKind } from "./directory-kind.ts";

const [tasks, mounts] = [new URL("./discard-task.ts", import.meta.url), new URL("./mount-task.ts", import.meta.url)];
/** Milliseconds that a start waits for what nobody uses any more to end. */
const settlePatience = 2000;

export type DirectoryOptions = {
  /** The engine's data root. */
  readonly root: string;
  readonly pool: Pool;
  /** For copies, so that nobody waits for their threads; `pool` when undefined. */
  readonly longPool?: Pool | undefined;
  /** The way to volumes that may hang; one of its own when undefined. */
  readonly remote?: Remote | undefined;
};

/** Opens the driver; its folder is made when missing. */
export async function openDirectoryDriver(kind: DirectoryKind, options: DirectoryOptions): Promise<VolumeDriver> {
  const { root, remote = new Remote() } = options;
  const directory = join(root, kind.folder);
  const above = dirname(directory);
  await mkdir(root, { recursive: true });
  if (above !== root) await makeDirectory(above, 0o710);
  await makeDirectory(directory, 0o701);
  await makeDirectory(secretsFolder(root), 0o700);
  await syncDirectory(above);
  const driver = new DirectoryDriver(kind, directory, { ...options, remote });
  await driver.sweep();
  return driver;
}

class DirectoryDriver implements VolumeDriver {
  readonly name: string;
  readonly traits: VolumeTraits;
  readonly #kind: DirectoryKind;
  readonly #directory: string;
  readonly #pool: Pool;
  readonly #remote: Remote;
  readonly #programs: ProgramMounts | undefined;
  readonly #content: VolumeContent | undefined;
  readonly requirements: readonly Requirement[];
  readonly snapshots?: VolumeSnapshots;
  /** One makes, changes, mounts or unmounts a volume at a time, also when whoever asked has given up waiting. */
  readonly #turns = new NameLocks();
  readonly #uses = new VolumeUses();

  constructor(
    kind: DirectoryKind,
    directory: string,
    { root, pool, longPool = pool, remote }: DirectoryOptions & { readonly remote: Remote },
  ) {
    this.name = kind.name;
    this.traits = kind.traits;
    this.#kind = kind;
    this.#directory = directory;
    this.#pool = pool;
    this.#remote = remote;
    this.requirements = kind.requirements ?? [];
    const detach = (target: string): Promise<void> =>
      remote.calls.detach(target, remote.patience(`what is mounted at ${target}`));
    this.#programs = kind.program && new ProgramMounts(kind.program, { root, pool, detach });
    this.#content = kind.content?.({ root, pool, longPool });
    const snapshots = this.#content?.snapshots;
    if (snapshots === undefined) return;
    this.snapshots = directorySnapshots({
      snapshots,
      folderOf: (spec) => this.#contentFolder(spec),
      changing: (spec, work) => this.#turns.run(spec.name, () => this.#changing(spec, work)),
      alone: (name, work) => this.#turns.run(name, work),
      together: (names, work) => this.#together(names, work),
      copying: (name) => this.#uses.copying(name),
      refuseCopied: (name) => this.#uses.refuseCopied(name),
      create: (spec, source) => this.#create(spec, source),
    });
  }

  validate({ name, options }: VolumeSpec): void {
    validateName(name);
    this.#kind.mountOf?.(options);
    this.#kind.check?.(options);
    this.#kind.program?.check(options);
  }

  async create(spec: VolumeSpec): Promise<void> {
    await this.#turns.run(spec.name, () => this.#create(spec));
  }

  async #create(spec: VolumeSpec, source?: ContentSource): Promise<void> {
    this.validate(spec);
    if (await this.#has(spec)) {
      if (source === undefined) return;
      throw new EngineError("conflict", `there is a volume ${spec.name} already`);
    }
    const staging = join(this.#directory, `.new-${randomBytes(8).toString("hex")}`);
    try {
      await makeDirectory(staging, 0o701);
      await makeDirectory(join(staging, "_data"), 0o755);
      const text = this.#kind.optionsFile?.(spec.options);
      if (text !== undefined) await writeFileDurably(join(staging, "opts.json"), text);
      if (this.#kind.mountOf?.(spec.options) === undefined) await this.#content?.make(staging, spec, source);
      // What is copied was prepared before.
      if (source === undefined) await this.#programs?.prepare(spec, staging);
      await (this.#programs === undefined ? syncDirectory(staging) : syncFilesystem(staging));
      await rename(staging, this.#pathOf(spec));
      await this.#content?.moved?.(this.#pathOf(spec));
      await syncDirectory(this.#directory);
    } catch (error) {
      await this.#discard(staging);
      throw error;
    }
  }

  isRemote({ options }: VolumeSpec): boolean {
    if (this.traits.remote === true || this.#programs !== undefined) return true;
    const mount = this.#kind.mountOf?.(options);
    return mount !== undefined && mountsRemote(mount);
  }

  async remove(spec: VolumeSpec): Promise<void> {
    validateName(spec.name);
    await this.#turns.run(spec.name, () => this.#remove(spec));
  }

  async #remove(spec: VolumeSpec): Promise<void> {
    this.#uses.refuseUsed(spec.name);
    if (this.#programs !== undefined) await this.#programs.release(this.#placeOf(spec));
    else await this.#unmount(spec);
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

  async update(spec: VolumeSpec, options: VolumeSpec["options"]): Promise<void> {
    const wanted = { name: spec.name, options };
    this.validate(wanted);
    const changed = changesOf(this.#kind, spec.options, options);
    await this.#turns.run(spec.name, async () => {
      await this.describe(spec);
      const onlySize = changed.every((name) => name === "size");
      const work = (): Promise<void> => this.#update(wanted, changed.includes("size"));
      await (onlySize && this.#uses.isUsed(spec.name) ? work() : this.#changing(spec, work));
    });
  }

  async #update({ name, options }: VolumeSpec, resized: boolean): Promise<void> {
    const folder = this.#pathOf({ name });
    const size = options.size === undefined ? 0 : parseSize(options.size);
    if (resized) await this.#content?.resize(folder, size === 0 ? undefined : size, this.#uses.isUsed(name));
    const remount = this.#kind.remountOf?.(options);
    if (remount !== undefined && isMountPoint(this.#dataOf({ name })))
      await this.#pool.run<object, void>(mounts, "remountVolumeTask", {
        mount: remount,
        target: this.#dataOf({ name }),
      });
    const text = this.#kind.optionsFile?.(options);
    if (text !== undefined) await writeFileDurably(join(folder, "opts.json"), text);
    else await rm(join(folder, "opts.json"), { force: true });
  }

  async rename(spec: VolumeSpec, name: string): Promise<void> {
    validateName(name);
    await this.#together([spec.name, name], async () => {
      await this.describe(spec);
      if (await this.#has({ name })) throw new EngineError("conflict", `there is a volume ${name} already`);
      await this.#changing(spec, () => rename(this.#pathOf(spec), this.#pathOf({ name })));
      await this.#content?.moved?.(this.#pathOf({ name }));
      await syncDirectory(this.#directory);
    });
  }

  /** Runs `work`, in the volume's turn, while nobody uses it, and what an earlier life left mounted is unmounted. */
  async #changing<T>(spec: Pick<VolumeSpec, "name">, work: () => Promise<T>): Promise<T> {
    this.#uses.refuseUsed(spec.name);
    if (this.#kind.staysMounted !== true) await this.#unmount(spec);
    if (this.#programs !== undefined && isMountPoint(this.#dataOf(spec)))
      throw new EngineError("conflict", "what was written to it is still being saved; try again when that has ended");
    return work();
  }

  /** Runs `work` in the turns of both, taken in one order by all. */
  #together<T>(names: readonly [string, string], work: () => Promise<T>): Promise<T> {
    const [first, second] = names.toSorted() as [string, string];
    return this.#turns.run(first, () => (first === second ? work() : this.#turns.run(second, work)));
  }

  /** The folder of a volume whose data is kept here. */
  async #contentFolder(spec: VolumeSpec): Promise<string> {
    await this.describe(spec);
    const { mountOf, keptElsewhere } = this.#kind;
    if (mountOf?.(spec.options) === undefined && keptElsewhere?.(spec.options) !== true) return this.#pathOf(spec);
    throw new EngineError("unsupported", `${spec.name} shows what its options mount; snapshots are kept there`);
  }

  async mount(spec: VolumeSpec, use: string): Promise<string> {
    return this.#turns.run(spec.name, async () => {
      await this.describe(spec);
      const path = this.#dataOf(spec);
      await this.#mount(spec, path);
      this.#uses.begin(spec.name, use);
      return path;
    });
  }

  async #mount(spec: VolumeSpec, path: string): Promise<void> {
    try {
      const mount = this.#kind.mountOf?.(spec.options);
      if (mount === undefined && this.#programs === undefined && this.#content === undefined) return;
      await refuseMissing(this);
      if (this.#programs !== undefined) await this.#programs.mount(this.#placeOf(spec));
      else if (isMountPoint(path)) return;
      else if (mount !== undefined) await mountVolume(this.#poolFor(spec), mount, path);
      else await this.#content?.mount(this.#pathOf(spec));
    } catch (cause) {
      throw new EngineError(errorCode(cause), `error while mounting volume '${path}': ${errorMessage(cause)}`, {
        cause,
      });
    }
  }

  async unmount(spec: VolumeSpec, use: string): Promise<void> {
    await this.#turns.run(spec.name, async () => {
      if (!this.#uses.end(spec.name, use)) return;
      if (this.#kind.staysMounted !== true) await this.#unmount(spec);
    });
  }

  async saved(spec: VolumeSpec): Promise<void> {
    await this.#programs?.saved(this.#placeOf(spec));
  }

  async settle(): Promise<void> {
    if (this.#kind.staysMounted === true) return;
    const unused = (await this.list()).filter((name) => !this.#uses.isMounted(name));
    const leaving = unused.map((name) =>
      this.#turns.run(name, async () => {
        if (!this.#uses.isMounted(name)) await this.#unmount({ name }, settlePatience);
      }),
    );
    // What hangs leaves in its own time, and keeps only those waiting who mount the same volume.
    const patience = sleep(settlePatience, undefined, { ref: false });
    await Promise.race([Promise.allSettled(leaving), patience]);
  }

  async #unmount(spec: Pick<VolumeSpec, "name">, patience?: number): Promise<void> {
    const path = this.#dataOf(spec);
    if (this.#programs !== undefined) await this.#programs.unmount(this.#placeOf(spec), patience);
    else if (isRemoteMount(path)) await this.#remote.calls.detach(path, this.#remote.patience(this.#titleOf(spec)));
    else if (isMountPoint(path)) await unmountAllAsync(path);
  }

  #poolFor(spec: VolumeSpec): Pool {
    return this.isRemote(spec) ? this.#remote.pool(`${this.name}/${spec.name}`, this.#titleOf(spec)) : this.#pool;
  }

  async describe(spec: VolumeSpec): Promise<VolumeDescription> {
    validateName(spec.name);
    try {
      const { birthtime } = await lstat(this.#pathOf(spec));
      if (!(await this.#has(spec))) throw missing(this.#dataOf(spec));
      const mountpoint = this.#dataOf(spec);
      const options = await this.#optionsOf(spec);
      return { mountpoint, createdAt: birthtime.toISOString(), status: undefined, ...options };
    } catch (error) {
      if (systemCode(error) !== "ENOENT") throw error;
      throw missing(this.#dataOf(spec));
    }
  }

  async #optionsOf(spec: VolumeSpec): Promise<Pick<VolumeDescription, "options">> {
    const read = this.#kind.readOptionsFile;
    if (read === undefined) return {};
    const text = await readFile(join(this.#pathOf(spec), "opts.json"), "utf8").catch((error: unknown) => {
      if (systemCode(error) === "ENOENT") return undefined;
      throw error;
    });
    return text === undefined ? {} : { options: read(text) };
  }

  async usage(spec: VolumeSpec, signal?: AbortSignal): Promise<number | undefined> {
    validateName(spec.name);
    if (this.#programs !== undefined) return this.#programs.usage(this.#placeOf(spec), signal);
    // What is mounted may be somebody else's and far away: Docker counts it nowhere.
    if (this.#kind.mountOf?.(spec.options) !== undefined && this.#kind.measured !== true) return undefined;
    if (this.#content !== undefined) return this.#content.usage(this.#pathOf(spec), signal);
    const { bytes } = await this.#poolFor(spec).run<{ path: string }, { bytes: number }>(
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
      if (name.startsWith(".new-") || name.startsWith(".gone-"))
        await this.#swept(() => this.#discard(join(this.#directory, name)));
    if (this.#content === undefined) return;
    for (const name of await this.list()) await this.#swept(async () => this.#content?.sweep(this.#pathOf({ name })));
  }

  /** What holds the data may be away (a disk, a pool): its record stays, and a later start sweeps. */
  async #swept(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (this.#content === undefined) throw error;
    }
  }

  async #discard(path: string): Promise<void> {
    await this.#content?.release(path);
    await this.#pool.run(tasks, "discardTask", path);
  }

  /** What is mounted is there, and is not asked. */
  async #has({ name }: Pick<VolumeSpec, "name">): Promise<boolean> {
    const path = join(this.#directory, name, "_data");
    return isMountPoint(path) || (await isDirectory(path));
  }

  #placeOf({ name, options = {} }: Partial<VolumeSpec> & Pick<VolumeSpec, "name">): ProgramPlace {
    return { spec: { name, options }, folder: this.#pathOf({ name }), target: this.#dataOf({ name }) };
  }

  #titleOf = (spec: Pick<VolumeSpec, "name">): string => `volume ${spec.name} of driver ${this.name}`;
  #pathOf = (spec: Pick<VolumeSpec, "name">): string => join(this.#directory, spec.name);
  #dataOf = (spec: Pick<VolumeSpec, "name">): string => join(this.#directory, spec.name, "_data");
}

const isRemoteMount = (path: string): boolean =>
  mountTable().some(({ target, type }) => target === path && isRemoteType(type));

const missing = (path: string): EngineError =>
  new EngineError("not_found", `no such volume: the directory ${path} is gone`);
