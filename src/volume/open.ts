/**
 * Opens the volume store: names over many drivers. What is acknowledged is a row `ready` and data behind it; every
 * other combination that a crash can leave is mended here, in both directions. Each verb has its file.
 */
import type { EventBus } from "../base/events.ts";
import type { Pool } from "../host/pool.ts";
import type { Database } from "../metadata/database.ts";
import type { VolumeDriver, VolumeDriverSource } from "../volume-driver/driver.ts";
import { findVolume, type VolumeContext } from "./context.ts";
import { createVolume } from "./create.ts";
import { Drivers } from "./drivers.ts";
import { getVolume, listVolumes, volumeUsage } from "./look.ts";
import { copyUpVolume, mountVolume, unmountVolume } from "./mount.ts";
import { NameLocks } from "./name-locks.ts";
import { reconcile } from "./reconcile.ts";
import { holdStatement, referencesOf, releaseStatement } from "./records.ts";
import { pruneVolumes, removeVolume } from "./remove.ts";
import type { VolumeStore } from "./store.ts";

export type VolumeStoreOptions = {
  readonly database: Database;
  /** The first is the default. */
  readonly drivers: readonly VolumeDriver[];
  /** Drivers from outside, by name; none when undefined. */
  readonly foreign?: VolumeDriverSource | undefined;
  readonly pool: Pool;
  readonly events: EventBus;
};

/** Half-made and half-removed volumes are gone, and volumes without a row have one, when it resolves. */
export async function openVolumeStore(options: VolumeStoreOptions): Promise<VolumeStore> {
  const { database, pool, events } = options;
  const drivers = new Drivers(options.drivers, options.foreign);
  await reconcile(database, drivers.known);
  const now = { pruning: false, settled: false };
  return storeOf({ database, drivers, pool, events, locks: new NameLocks(), whole: new Set(), now });
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
    unmount: (name, use) => unmountVolume(context, name, use),
    copyUp: (name, source) => copyUpVolume(context, name, source),
    usage: (name) => volumeUsage(context, name),
    settle: async () => {
      context.now.settled = true;
      await drivers.settle();
    },
  };
}
