/**
 * Data of volumes as trees of this machine: limited in size where that was asked for, kept at moments by copies that
 * share what the filesystem lets them share.
 *
 *     <folder>/                          a volume's own
 *       _data, image                     see content-task.ts
 *       place                            where the home is, when it is elsewhere: one absolute path
 *     <home>/                            the folder itself, unless `place` says another
 *       .snapshots/<name>/data           one moment; the time of its directory is the moment's
 *       .snapshots/.new-*, .gone-*       half-made and removed ones; swept when the driver opens
 */
import { randomBytes } from "node:crypto";
import { access, mkdir, readFile, rename, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { TreeSize } from "../archive/tree-size.ts";
import { EngineError, systemCode } from "../base/errors.ts";
import { humanSize } from "../base/size.ts";
import { syncDirectory, writeFileDurably } from "../host/durable.ts";
import { findLimiter } from "../host/limiter.ts";
import { namesIn } from "../host/names-in.ts";
import type { Pool } from "../host/pool.ts";
import { smallestImage } from "../host/size-image.ts";
import { type BegunSnapshot, type ContentSource, dataName, type VolumeContent } from "./content.ts";
import { type DataForm, imageName, type MakeData, trialPrefix } from "./content-task.ts";
import { type Copying, copyOnce, DataCopy } from "./data-copy.ts";
import { makeDirectory } from "./directories.ts";
import type { CopyCost, CopyWork, VolumeSnapshot, VolumeSpec } from "./driver.ts";

const tasks = new URL("./content-task.ts", import.meta.url);
const discards = new URL("./discard-task.ts", import.meta.url);
const resizes = new URL("./resize-task.ts", import.meta.url);
const placeName = "place";
const snapshotsName = ".snapshots";

type Restoring = { readonly spec: VolumeSpec; readonly work: CopyWork };

export type FolderContentOptions = {
  readonly pool: Pool;
  /** For copies. */
  readonly longPool: Pool;
  /** Where the data may grow: the limit of a volume in bytes; undefined is none. Pure. */
  readonly sizeOf: (options: VolumeSpec["options"]) => number | undefined;
  /** The name of the data in a volume's folder, where a program shows it as `_data`; it limits nothing. */
  readonly data?: string;
  /** Every volume is a subvolume of btrfs, limited or not. */
  readonly subvolumes?: boolean;
  /** The directory in which a volume's home is made, when it is not its folder. Throws where that cannot be. */
  readonly placeOf?: (folder: string, options: VolumeSpec["options"]) => Promise<string | undefined>;
};

export class FolderContent implements VolumeContent {
  readonly #options: FolderContentOptions;
  readonly snapshots = {
    cost: (folder: string) => this.#cost(folder),
    create: (folder: string, snapshot: string, work: CopyWork) => this.#snapshot(folder, snapshot, work),
    begin: (folder: string, snapshot: string, work: CopyWork) => this.#begin(folder, snapshot, work),
    list: (folder: string) => this.#list(folder),
    remove: (folder: string, snapshot: string) => this.#removeSnapshot(folder, snapshot),
    restore: (folder: string, snapshot: string, restoring: Restoring) => this.#restore(folder, snapshot, restoring),
  };

  constructor(options: FolderContentOptions) {
    this.#options = options;
  }

  async make(folder: string, spec: VolumeSpec, source?: ContentSource): Promise<void> {
    const size = this.#options.sizeOf(spec.options);
    const home = await this.#makeHome(folder, spec);
    const form = await this.#formFor(home, size);
    if (form === "plain" && source === undefined) return;
    const { data = dataName } = this.#options;
    if (data !== dataName) await makeDirectory(join(home, data), 0o700);
    await this.#make({ home, data, form, size, source: await this.#sourceOf(source) }, source?.work);
    await syncDirectory(home);
  }

  async mount(folder: string): Promise<void> {
    const home = await this.#homeOf(folder);
    if (home === folder && !(await isThere(join(home, imageName)))) return;
    await this.#run("mountDataTask", { home, target: join(folder, dataName) });
  }

  async release(folder: string): Promise<void> {
    const home = await this.#homeOf(folder);
    if (home === folder) return;
    // The record stays as long as what it names cannot be reached.
    if (!(await this.#run<boolean>("isOnBtrfsTask", { folder: dirname(home) })))
      throw new EngineError("unavailable", `${dirname(home)}, where the volume's data is, is not mounted`);
    await this.#discard(home);
  }

  async usage(folder: string, signal?: AbortSignal): Promise<number> {
    const { bytes } = await this.#run<TreeSize>("sizeTask", { home: await this.#homeOf(folder) }, signal);
    return bytes;
  }

  async resize(folder: string, size: number | undefined, used: boolean): Promise<void> {
    const home = await this.#homeOf(folder);
    const form = await this.#formOf(home);
    if (size !== undefined && (await this.usage(folder)) > size)
      throw new EngineError("conflict", `it holds more than ${humanSize(size)}; delete some of it first`);
    if (form === "image" && size !== undefined) refuseSmall(size);
    const resized = await this.#options.pool.run<object, boolean>(resizes, "resizeTask", { home, form, size });
    if (resized) return;
    if (used) throw new EngineError("conflict", "this change of its size needs it unused; stop the containers first");
    const wanted = await this.#formFor(home, size);
    if (wanted !== form || form === "image") await this.#replace(home, { form: wanted, size, source: home });
  }

  async sweep(folder: string): Promise<void> {
    const home = await this.#homeOf(folder);
    for (const name of await namesIn(home)) if (name.startsWith(trialPrefix)) await this.#discard(join(home, name));
    for (const name of await namesIn(join(home, snapshotsName)))
      if (name.startsWith(".")) await this.#discard(join(home, snapshotsName, name));
  }

  async #cost(folder: string): Promise<CopyCost> {
    const home = await this.#homeOf(folder);
    const form = await this.#formOf(home);
    // A snapshot of a subvolume shows nothing where another one stands, so one that holds some is copied.
    if (form === "subvolume" && !(await this.#run("holdsOthersTask", { home }))) return "constant";
    return form !== "image" && (await this.#run("sharesTask", { home })) ? "reflink" : "copy";
  }

  async #snapshot(folder: string, snapshot: string, work: CopyWork): Promise<void> {
    const home = await this.#homeOf(folder);
    await refuseTaken(home, snapshot);
    const { data } = this.#options;
    await this.#staged(home, async (staging) => {
      await copyOnce(this.#copying(work), "copyDataTask", { home, data, target: staging });
      await showSnapshot(staging, snapshot);
    });
  }

  async #begin(folder: string, snapshot: string, work: CopyWork): Promise<BegunSnapshot> {
    const home = await this.#homeOf(folder);
    await refuseTaken(home, snapshot);
    const { data } = this.#options;
    await using stack = new AsyncDisposableStack();
    const staging = await this.#makeStaging(home);
    // When it has its name, nothing is there.
    stack.defer(() => this.#discard(staging));
    const copy = stack.use(await DataCopy.begin(this.#copying(work), { home, data, target: staging }));
    const kept = stack.move();
    const finish = async (still: boolean): Promise<boolean> => {
      const consistent = await copy.finish(still);
      await refuseTaken(home, snapshot);
      await showSnapshot(staging, snapshot);
      return consistent;
    };
    return { finish, [Symbol.asyncDispose]: () => kept.disposeAsync() };
  }

  async #list(folder: string): Promise<readonly VolumeSnapshot[]> {
    const directory = join(await this.#homeOf(folder), snapshotsName);
    const names = (await namesIn(directory)).filter((name) => !name.startsWith("."));
    const times = await Promise.all(names.map((name) => stat(join(directory, name), { bigint: true })));
    return names
      .map((name, index) => ({ name, made: times[index]?.mtimeNs ?? 0n }))
      .sort((a, b) => (a.made === b.made ? (a.name < b.name ? -1 : 1) : a.made < b.made ? -1 : 1))
      .map(({ name, made }) => ({ name, createdAt: new Date(Number(made / 1_000_000n)).toISOString() }));
  }

  async #removeSnapshot(folder: string, snapshot: string): Promise<void> {
    const path = await this.#snapshotPath(folder, snapshot);
    const gone = join(dirname(path), `.gone-${randomBytes(8).toString("hex")}`);
    await rename(path, gone);
    await syncDirectory(dirname(path));
    await this.#discard(gone);
  }

  async #restore(folder: string, snapshot: string, { spec: { options }, work }: Restoring): Promise<void> {
    const source = await this.#snapshotPath(folder, snapshot);
    const home = await this.#homeOf(folder);
    const form = await this.#formOf(home);
    const size = this.#options.sizeOf(options);
    await this.#replace(home, { form, size, source }, work);
  }

  /** Gives a home the data of `source`, all at once. */
  async #replace(home: string, made: Omit<MakeData, "home">, work?: CopyWork): Promise<void> {
    await this.#staged(home, async (staging) => {
      const { data = dataName } = this.#options;
      await makeDirectory(join(staging, data), 0o755);
      await this.#make({ ...made, data, home: staging }, work);
      await syncDirectory(staging);
      await this.#run("swapDataTask", { home, data, staging });
      await syncDirectory(home);
      await this.#discard(staging);
    });
  }

  /** `work`: of a copy that somebody asked for. */
  #make(made: MakeData, work: CopyWork | undefined): Promise<void> {
    return work === undefined ? this.#run("makeDataTask", made) : copyOnce(this.#copying(work), "makeDataTask", made);
  }

  #copying = (work: CopyWork): Copying => ({ pool: this.#options.longPool, work });

  async #makeStaging(home: string): Promise<string> {
    const directory = join(home, snapshotsName);
    await makeDirectory(directory, 0o700);
    const staging = join(directory, `.new-${randomBytes(8).toString("hex")}`);
    await mkdir(staging, { mode: 0o700 });
    return staging;
  }

  /** Lends a directory on the filesystem of the home; what is in it on failure goes. */
  async #staged(home: string, use: (staging: string) => Promise<void>): Promise<void> {
    const staging = await this.#makeStaging(home);
    try {
      await use(staging);
    } catch (error) {
      await this.#discard(staging);
      throw error;
    }
  }

  async #makeHome(folder: string, { name, options }: VolumeSpec): Promise<string> {
    const place = await this.#options.placeOf?.(folder, options);
    if (place === undefined) return folder;
    const home = join(place, `${name}.${randomBytes(4).toString("hex")}`);
    // On record first: what a crash leaves there is found.
    await writeFileDurably(join(folder, placeName), home);
    await mkdir(home, { mode: 0o701 });
    await makeDirectory(join(home, dataName), 0o755);
    await syncDirectory(place);
    return home;
  }

  async #homeOf(folder: string): Promise<string> {
    if (this.#options.placeOf === undefined) return folder;
    return readFile(join(folder, placeName), "utf8").catch((error: unknown) => {
      if (systemCode(error) === "ENOENT") return folder;
      throw error;
    });
  }

  async #sourceOf(source: ContentSource | undefined): Promise<string | undefined> {
    if (source === undefined) return undefined;
    if (source.snapshot !== undefined) return this.#snapshotPath(source.folder, source.snapshot);
    return this.#homeOf(source.folder);
  }

  async #snapshotPath(folder: string, snapshot: string): Promise<string> {
    const directory = join(await this.#homeOf(folder), snapshotsName);
    if ((await namesIn(directory)).includes(snapshot)) return join(directory, snapshot);
    throw new EngineError("not_found", `the volume ${basename(folder)} has no snapshot ${snapshot}`);
  }

  async #formFor(home: string, size: number | undefined): Promise<DataForm> {
    if (this.#options.subvolumes === true) return "subvolume";
    if (size === undefined) return "plain";
    if (await this.#run<boolean>("limitsSubvolumesTask", { folder: home })) return "subvolume";
    const limiter = await findLimiter(dirname(home));
    if (limiter.kind === "none")
      throw new EngineError("invalid_argument", `quota size requested but no quota support: ${limiter.reason}`);
    if (limiter.kind === "image") refuseSmall(size);
    return limiter.kind;
  }

  #formOf(home: string): Promise<DataForm> {
    return this.#run("formTask", { home });
  }

  async #discard(path: string): Promise<void> {
    await this.#options.pool.run(discards, "discardTask", path);
  }

  #run<R>(name: string, argument: object, signal?: AbortSignal): Promise<R> {
    return this.#options.pool.run<object, R>(tasks, name, argument, signal === undefined ? {} : { signal });
  }
}

async function refuseTaken(home: string, snapshot: string): Promise<void> {
  if ((await namesIn(join(home, snapshotsName))).includes(snapshot))
    throw new EngineError("conflict", `the volume has a snapshot ${snapshot} already`);
}

/** What is staged beside the other snapshots is one of them from now on. */
async function showSnapshot(staging: string, snapshot: string): Promise<void> {
  await rename(staging, join(dirname(staging), snapshot));
  await syncDirectory(dirname(staging));
}

function refuseSmall(size: number): void {
  if (size < smallestImage)
    throw new EngineError("invalid_argument", `the size of a volume cannot be less than ${humanSize(smallestImage)}`);
}

async function isThere(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
