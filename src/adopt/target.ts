/**
 * The data root that adopts: its lock, and the stores that objects go in through. No container service among them: that
 * would start what restart policies want running. A dry run opens no store and makes nothing but a folder to mount in.
 */
import { existsSync } from "node:fs";
import { chmod, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { EventBus } from "../base/events.ts";
import { containerSchema } from "../container/record.ts";
import { lockFile } from "../host/lock.ts";
import type { Pool } from "../host/pool.ts";
import { openImageStore } from "../image/open.ts";
import { imageSchema } from "../image/schema.ts";
import type { ImageStore } from "../image/store.ts";
import { readRoles } from "../layer/driver-roles.ts";
import { openLayerStore } from "../layer/open.ts";
import { layerSchema } from "../layer/schema.ts";
import type { LayerStore } from "../layer/store.ts";
import { openDatabase } from "../metadata/open.ts";
import { ReadOnlyDatabase } from "../metadata/read-only.ts";
import { networkSchema } from "../network/open.ts";
import { openStorageDriver, selectStorageDriver } from "../storage-driver/select.ts";
import { openVolumeStore } from "../volume/open.ts";
import { volumeSchema } from "../volume/schema.ts";
import type { VolumeStore } from "../volume/store.ts";
import { openVolumeDrivers } from "../volume-driver/list.ts";
import { Known } from "./known.ts";

export type Stores = {
  readonly dataRoot: string;
  readonly layers: LayerStore;
  readonly images: ImageStore;
  readonly volumes: VolumeStore;
};

export type Target = {
  readonly driver: string;
  readonly known: Known;
  /** Undefined in a dry run. */
  readonly stores: Stores | undefined;
};

export type TargetOptions = {
  readonly dataRoot: string;
  readonly execRoot: string;
  readonly storageDriver: string | undefined;
  readonly pool: Pool;
};

const schemas = [layerSchema, imageSchema, volumeSchema, networkSchema, containerSchema];

/** What it opens is given back by `stack`. Throws conflict, naming the holder, while an engine has the data root. */
export async function openTarget(options: TargetOptions, stack: AsyncDisposableStack): Promise<Target> {
  const { dataRoot, execRoot, pool } = options;
  await makeRoot(dataRoot, 0o710);
  await makeRoot(execRoot, 0o711);
  stack.use(lockFile(join(dataRoot, "strata.pid")));
  const database = stack.use(await openDatabase(join(dataRoot, "meta.db"), schemas));
  const driver = stack.use(
    await openStorageDriver({ ...selection(options), recorded: readRoles(database).current, context: { pool } }),
  );
  const layers = stack.use(await openLayerStore({ root: dataRoot, execRoot, driver, database, pool }));
  const events = new EventBus();
  const drivers = await openVolumeDrivers({ root: dataRoot, pool });
  return {
    driver: driver.name,
    known: new Known(database, driver.name),
    stores: {
      dataRoot,
      layers,
      images: openImageStore({ database, layers, events }),
      volumes: await openVolumeStore({ database, drivers, pool, events }),
    },
  };
}

/** The same for a dry run: what is there is only read. */
export async function lookAtTarget(options: TargetOptions, stack: AsyncDisposableStack): Promise<Target> {
  const { name } = await selectStorageDriver({ ...selection(options), context: { pool: options.pool } });
  const path = join(options.dataRoot, "meta.db");
  if (!existsSync(path)) return { driver: name, known: new Known(undefined, name), stores: undefined };
  stack.use(lockFile(join(options.dataRoot, "strata.pid")));
  const database = stack.use(new ReadOnlyDatabase(path));
  database.refuseOthers(schemas);
  return { driver: name, known: new Known(database, name), stores: undefined };
}

const selection = ({ dataRoot, storageDriver }: TargetOptions) => ({
  root: dataRoot,
  ...(storageDriver === undefined ? {} : { configured: storageDriver }),
  options: {},
});

async function makeRoot(path: string, mode: number): Promise<void> {
  await mkdir(path, { recursive: true, mode });
  await chmod(path, mode);
}
