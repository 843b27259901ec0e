/**
 * The composition root: builds every part of the engine in order, and gives them back in reverse. Read it to see what
 * stands on what. One engine owns a data root at a time; containers go on running when an engine is closed.
 *
 *   <data root>/strata.pid   the lock of the data root
 *   <data root>/engine-id    who this engine is, for `docker info`
 *   <data root>/meta.db      every record (metadata/)
 *   <data root>/<driver>/, layers/, volumes/, containers/, staging/   what the parts keep
 *   <exec root>/             what dies with the boot: mounts, bundles, sockets
 */
import { randomUUID } from "node:crypto";
import { chmod, mkdir, readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import type { ImageId } from "./base/digest.ts";
import { systemCode } from "./base/errors.ts";
import { EventBus } from "./base/events.ts";
import type { Builder } from "./build/builder.ts";
import type { ContainerService } from "./container/container.ts";
import { openContainerService } from "./container/open.ts";
import { containerSchema } from "./container/record.ts";
import { writeFileDurably } from "./host/durable.ts";
import { giveBackMemory } from "./host/idle-memory.ts";
import { lockFile } from "./host/lock.ts";
import { namesIn } from "./host/names-in.ts";
import type { Pool } from "./host/pool.ts";
import { Remote } from "./host/remote.ts";
import { Reserve } from "./host/reserve.ts";
import { createPool } from "./host/worker-pool.ts";
import { type HistoryRow, historyOf } from "./image/history.ts";
import { type ListedImage, type ListOptions, listImages } from "./image/list.ts";
import { openImageStore } from "./image/open.ts";
import { type PrunedImages, pruneImages } from "./image/prune.ts";
import { imageSchema } from "./image/schema.ts";
import { layersSize, sharedSizes } from "./image/sizes.ts";
import type { Image, ImageStore } from "./image/store.ts";
import { noteUse, readRoles } from "./layer/driver-roles.ts";
import { openLayerStore } from "./layer/open.ts";
import { layerSchema } from "./layer/schema.ts";
import type { LayerStore } from "./layer/store.ts";
import type { Database } from "./metadata/database.ts";
import { openDatabase } from "./metadata/open.ts";
import { networkSchema, openNetworkStore } from "./network/open.ts";
import type { NetworkStore } from "./network/store.ts";
import type { PluginFolders } from "./plugin/discovery.ts";
import { openRuntime } from "./runtime/open-runtime.ts";
import { openStorageDriver } from "./storage-driver/select.ts";
import type { TransferService } from "./transfer/transfer.ts";
import { openVolumeStore } from "./volume/open.ts";
import { volumeSchema } from "./volume/schema.ts";
import type { VolumeStore } from "./volume/store.ts";
import type { VolumeVerbs } from "./volume/verbs.ts";
import { openForeignDrivers, openVolumeDrivers } from "./volume-driver/list.ts";

export type EngineOptions = {
  /** Holds everything that must survive; `/var/lib/strata` when undefined. */
  readonly dataRoot?: string | undefined;
  /** Holds what dies with the boot; `/run/strata` when undefined. */
  readonly execRoot?: string | undefined;
  /** Docker's name of a storage driver; chosen by what works when undefined. */
  readonly storageDriver?: string | undefined;
  /** The driver's options, as `--storage-opt` gives them. */
  readonly storageOptions?: Readonly<Record<string, string>>;
  /** Where volume plugins are looked for, sockets and files alike; Docker's folders when undefined or empty. */
  readonly pluginDirs?: readonly string[] | undefined;
  /** Milliseconds that whoever serves a volume from elsewhere may take for one answer; 10,000 when undefined. */
  readonly volumeDeadline?: number | undefined;
  /** Told what went wrong where nobody waits (a restart, a lazy write). */
  readonly report?: (message: string, error: unknown) => void;
};

/** Questions about all images at once. */
export type ImageViews = {
  readonly list: (options: ListOptions) => readonly ListedImage[];
  readonly history: (image: Image) => readonly HistoryRow[];
  readonly prune: (filters: ListOptions["filters"], signal: AbortSignal) => Promise<PrunedImages>;
  readonly sharedSizes: () => ReadonlyMap<ImageId, number>;
  readonly layersSize: () => number;
};

/** Every part, ready to be used. Disposing waits for what is under way and releases the data root. */
export type Engine = AsyncDisposable & {
  readonly id: string;
  readonly dataRoot: string;
  readonly execRoot: string;
  readonly events: EventBus;
  readonly layers: LayerStore;
  readonly images: ImageStore;
  readonly imageViews: ImageViews;
  readonly volumes: VolumeStore;
  readonly volumeVerbs: VolumeVerbs;
  readonly networks: NetworkStore;
  readonly containers: ContainerService;
  readonly transfer: TransferService;
  readonly builder: Builder;
  /** Program -> version of what runs containers. */
  readonly programs: Readonly<Record<string, string>>;
};

export const defaultDataRoot = "/var/lib/strata";
export const defaultExecRoot = "/run/strata";

/** Milliseconds that volume plugins get to answer when the engine closes. */
const pluginGrace = 3000;

const schemas = [layerSchema, imageSchema, volumeSchema, networkSchema, containerSchema];

type Ground = {
  readonly dataRoot: string;
  readonly execRoot: string;
  readonly pool: Pool;
  readonly database: Database;
  readonly events: EventBus;
  readonly reserve: Reserve;
};

/** Opens an engine. Throws conflict, naming the holder, when another one has the data root. */
export async function openEngine(options: EngineOptions = {}): Promise<Engine> {
  await using stack = new AsyncDisposableStack();
  const ground = await openGround(options, stack);
  const { dataRoot, execRoot, database, pool, events } = ground;
  const layers = await openLayers(ground, options, stack);
  const images = openImageStore({ database, layers, events });
  const remote = stack.use(new Remote(options.volumeDeadline));
  const longPool = stack.use(createPool({ onIdle: giveBackMemory }));
  const drivers = await openVolumeDrivers({ root: dataRoot, pool, longPool, remote });
  const closing = new AbortController();
  const foreign = await openForeignDrivers({
    closing: closing.signal,
    root: dataRoot,
    ownFolders: [execRoot],
    folders: pluginFolders(options.pluginDirs),
    report: options.report,
  });
  const root = dataRoot;
  const volumes = await openVolumeStore({ database, drivers, foreign, pool, longPool, remote, events, root });
  const networks = await openNetworkStore({ database, events });
  const runtime = stack.use(await openRuntime({ execRoot }));
  const parts = { database, layers, images, volumes, runtime, events, pool, remote };
  const containers = stack.use(
    await openContainerService({
      ...parts,
      root: dataRoot,
      execRoot,
      bootId: await readBootId(),
      ...(options.report === undefined ? {} : { report: options.report }),
    }),
  );
  // A kill between an image's removal and that of its layers left them.
  await layers
    .collect()
    .catch((error: unknown) => options.report?.("layers that nothing needs are still there", error));
  await volumes.settle();
  const volumeVerbs = volumes.verbs(containers.volumeUsers);
  const recovered = volumeVerbs.recover().catch((error: unknown) => {
    options.report?.("what a crash left of a volume's migration is still there", error);
  });
  stack.defer(() => recovered);
  stack.defer(forgetNetworksOfRemoved(events, networks, options.report));
  await sweepStaging(dataRoot, pool);
  const transfer = lazyTransfer({ layers, images, events, stagingRoot: join(dataRoot, "staging") });
  const builder = lazyBuilder({
    containers,
    images,
    layers,
    transfer,
    events,
    pool,
    stagingRoot: join(dataRoot, "staging-build"),
  });
  const id = await engineId(dataRoot);
  await ground.reserve.fill();
  const opened = stack.move();
  return {
    id,
    dataRoot,
    execRoot,
    events,
    layers,
    images,
    imageViews: viewsOf(images, layers, containers),
    volumes,
    volumeVerbs,
    networks,
    containers,
    transfer,
    builder,
    programs: runtime.versions,
    [Symbol.asyncDispose]: () => {
      // What a plugin is asked then is on record, and is done by the next start.
      const timer = setTimeout(() => closing.abort(new Error("the engine is closing")), pluginGrace);
      return opened.disposeAsync().finally(() => clearTimeout(timer));
    },
  };
}

function pluginFolders(dirs: EngineOptions["pluginDirs"]): PluginFolders | undefined {
  return dirs === undefined || dirs.length === 0 ? undefined : { sockets: dirs, specs: dirs };
}

function viewsOf(images: ImageStore, layers: LayerStore, containers: ContainerService): ImageViews {
  return {
    list: (options) => listImages(images, options),
    history: (image) => historyOf(image, { images, layers }),
    prune: (filters, signal) =>
      pruneImages({ images, layers }, { filters, signal, usedBy: (id) => containers.usersOf(id) }),
    sharedSizes: () => sharedSizes(images.list(), layers),
    layersSize: () => layersSize(layers) + layers.removedBytes,
  };
}

/** Folders, lock, worker threads, database: what every part stands on. */
async function openGround(options: EngineOptions, stack: AsyncDisposableStack): Promise<Ground> {
  const dataRoot = resolve(options.dataRoot ?? defaultDataRoot);
  const execRoot = resolve(options.execRoot ?? defaultExecRoot);
  await makeRoot(dataRoot, 0o710);
  await makeRoot(execRoot, 0o711);
  const reserve = new Reserve(join(dataRoot, "reserve"));
  await reserve.open();
  stack.use(lockFile(join(dataRoot, "strata.pid")));
  const pool = stack.use(createPool({ onIdle: giveBackMemory }));
  const database = stack.use(await openDatabase(join(dataRoot, "meta.db"), schemas));
  return { dataRoot, execRoot, pool, database, events: new EventBus(), reserve };
}

/** Users of the machine must not reach set-uid programs of images (CVE-2021-41091). */
async function makeRoot(path: string, mode: number): Promise<void> {
  await mkdir(path, { recursive: true, mode });
  await chmod(path, mode);
}

async function openLayers(
  { dataRoot, execRoot, pool, database }: Ground,
  options: EngineOptions,
  stack: AsyncDisposableStack,
): Promise<LayerStore> {
  const driver = stack.use(
    await openStorageDriver({
      root: dataRoot,
      ...(options.storageDriver === undefined ? {} : { configured: options.storageDriver }),
      recorded: readRoles(database).current,
      options: options.storageOptions ?? {},
      context: { pool },
    }),
  );
  await noteUse(database, driver.name);
  const report = (message: string): void => options.report?.(message, undefined);
  return stack.use(await openLayerStore({ root: dataRoot, execRoot, driver, database, pool, report }));
}

async function readBootId(): Promise<string> {
  return (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim();
}

/** The engine's id: made once, kept with the data. */
async function engineId(dataRoot: string): Promise<string> {
  const path = join(dataRoot, "engine-id");
  try {
    const id = (await readFile(path, "utf8")).trim();
    if (id !== "") return id;
  } catch (error) {
    if (systemCode(error) !== "ENOENT") throw error;
  }
  const id = randomUUID();
  await writeFileDurably(path, `${id}\n`, 0o600);
  return id;
}

/** A removed container leaves its networks. Returns the undo. */
function forgetNetworksOfRemoved(
  events: EventBus,
  networks: NetworkStore,
  report: EngineOptions["report"],
): () => void {
  return events.subscribe(({ type, action, id }) => {
    if (type !== "container" || action !== "destroy") return;
    networks.forget(id).catch((error: unknown) => report?.(`could not take container ${id} off its networks`, error));
  });
}

/** What an engine that was killed had been unpacking for a load or a build: worth nothing, and as large as a client made it. */
async function sweepStaging(dataRoot: string, pool: Pool): Promise<void> {
  const tasks = new URL("./build/context-task.ts", import.meta.url);
  for (const folder of ["staging", "staging-build"].map((name) => join(dataRoot, name)))
    for (const name of await namesIn(folder)) await pool.run(tasks, "discardContextTask", join(folder, name));
}

type TransferParts = Parameters<typeof import("./transfer/create.ts").createTransfer>[0];
type BuilderParts = Parameters<typeof import("./build/create.ts").createBuilder>[0];

/** The transfer service, loaded when it is first used: an idle daemon pays nothing for it. */
function lazyTransfer(parts: TransferParts): TransferService {
  let loaded: Promise<TransferService> | undefined;
  const load = (): Promise<TransferService> => {
    loaded ??= import("./transfer/create.ts").then(({ createTransfer }) => createTransfer(parts));
    return loaded;
  };
  return {
    importImage: async (tar, options) => (await load()).importImage(tar, options),
    load: async (archive, progress, signal) => (await load()).load(archive, progress, signal),
    save: async function* (names, signal) {
      yield* (await load()).save(names, signal);
    },
  };
}

function lazyBuilder(parts: BuilderParts): Builder {
  let loaded: Promise<Builder> | undefined;
  return {
    build: async (context, options, tell) => {
      loaded ??= import("./build/create.ts").then(({ createBuilder }) => createBuilder(parts));
      return (await loaded).build(context, options, tell);
    },
  };
}
