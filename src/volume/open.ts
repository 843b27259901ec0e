/**
 * Opens the volume store: names over many drivers. What is acknowledged is a row `ready` and data behind it; every
 * other combination that a crash can leave is mended here, in both directions. Each verb has its file.
 */
import { createHash } from "node:crypto";
import { hostname } from "node:os";
import type { EventBus } from "../base/events.ts";
import { NameLocks } from "../host/name-locks.ts";
import type { Pool } from "../host/pool.ts";
import { Remote } from "../host/remote.ts";
import type { Database } from "../metadata/database.ts";
import type { VolumeDriver, VolumeDriverSource } from "../volume-driver/driver.ts";
import { Breakers } from "./breaker.ts";
import { Busy } from "./busy.ts";
import { findVolume, isRemoteVolume, type VolumeContext } from "./context.ts";
import { createVolume } from "./create.ts";
import { Drivers } from "./drivers.ts";
import { KeptCopies } from "./kept-copies.ts";
import { getVolume, listVolumes, volumeUsage } from "./look.ts";
import { askVolume, copyUpVolume, mountVolume, retakeVolume, unmountVolume } from "./mount.ts";
import { finishRenames, reconcile } from "./reconcile.ts";
import { holdStatement, referencesOf, releaseStatement } from "./records.ts";
import { pruneVolumes, removeVolume } from "./remove.ts";
import type { VolumeStore } from "./store.ts";
import { verbsOf } from "./verbs/all.ts";

export type VolumeStoreOptions = {
  readonly database: Database;
  /** The first is the default. */
  readonly drivers: readonly VolumeDriver[];
  /** Drivers from outside, by name; none when undefined. */
  readonly foreign?: VolumeDriverSource | undefined;
  readonly pool: Pool;
  /** The way to volumes that may hang; one of its own when undefined. */
  readonly remote?: Remote | undefined;
  readonly events: EventBus;
  /** The data root, where the store keeps copies that no driver keeps; nothing is kept without it. */
  readonly root?: string | undefined;
  /** For work that takes long, so that nobody waits for its threads; `pool` when undefined. */
  readonly longPool?: Pool | undefined;
};

/** Half-made and half-removed volumes are gone, and volumes without a row have one, when it resolves. */
export async function openVolumeStore(options: VolumeStoreOptions): Promise<VolumeStore> {
  const { database, pool, events, remote = new Remote() } = options;
  const now = { pruning: false };
  const breakers = new Breakers();
  const drivers = new Drivers(options.drivers, options.foreign, { remote, breakers });
  await finishRenames(database, drivers.known);
  await reconcile(database, drivers.known);
  const copies = options.root === undefined ? undefined : new KeptCopies(options.root, pool);
  await copies?.open(database);
  return storeOf({
    database,
    owner: ownerOf(database),
    drivers,
    pool,
    longPool: options.longPool ?? pool,
    events,
    remote,
    breakers,
    locks: new NameLocks(),
    busy: new Busy(),
    uses: new Map(),
    copies,
    whole: new Set(),
    now,
  });
}

/** The same after every restart; another one for a copy of the data root on another machine. */
function ownerOf(database: Database): string {
  const id = String(database.get("SELECT id FROM volume_store")?.id);
  return createHash("sha256").update(`${id} ${hostname()}`).digest("hex").slice(0, 16);
}

function storeOf(context: VolumeContext): VolumeStore {
  const { database, drivers } = context;
  return {
    get drivers() {
      return drivers.names;
    },
    driverStates: () => drivers.states(),
    create: (request) => createVolume(context, request),
    get: (name) => getVolume(context, name),
    find: (name) => findVolume(context, name),
    list: (filters = new Map()) => listVolumes(context, filters),
    remove: (name, options) => removeVolume(context, name, options),
    prune: (filters) => pruneVolumes(context, filters),
    references: (name) => referencesOf(database, name),
    holdStatements: (container, names) => [...new Set(names)].map((name) => holdStatement(container, name)),
    releaseStatements: (container) => [releaseStatement(container)],
    mount: (name, use) => mountVolume(context, name, use),
    retake: (name, use) => retakeVolume(context, name, use),
    isRemote: (name) => {
      const volume = findVolume(context, name);
      return volume !== undefined && isRemoteVolume(context, volume);
    },
    asking: (name, work) => askVolume(context, name, work),
    unmount: (name, use) => unmountVolume(context, name, use),
    copyUp: (name, source) => copyUpVolume(context, name, source),
    usage: (name) => volumeUsage(context, name),
    verbs: (users) => verbsOf({ ...context, users }),
    settle: () => drivers.settle(),
  };
}
