/** What the parts of a migration share: what was asked, what they work on, and what came of it. */
import type { Pool } from "../host/pool.ts";
import type { LayerStore } from "../layer/store.ts";
import type { Database } from "../metadata/database.ts";
import type { StorageDriver } from "../storage-driver/driver.ts";

/** `bytes` of `totalBytes` are those of layer tars; containers are counted. */
export type Progress = {
  readonly what: "layer" | "container";
  readonly name: string;
  readonly done: number;
  readonly total: number;
  readonly bytes: number;
  readonly totalBytes: number;
};

export type MigrateOptions = {
  readonly dataRoot: string;
  readonly to: string;
  /** The driver to move from; undefined: the one that the data root uses. Either may be the path of a driver module. */
  readonly from?: string | undefined;
  /** `--storage-opt` of the daemon, for each side's driver. */
  readonly storageOptions?: Readonly<Record<string, string>>;
  readonly sourceOptions?: Readonly<Record<string, string>>;
  /** Removes the old data once they have been moved, now or by an earlier run. */
  readonly removeOld?: boolean;
  /** The target's own layers of the same containers go. */
  readonly replace?: boolean;
  /** Containers whose storage options the target cannot keep are moved without. */
  readonly ignoreStorageOptions?: boolean;
  readonly progress?: (progress: Progress) => void;
};

export type MigrateReport = {
  /** Undefined when the data root had been moved already. */
  readonly from: string | undefined;
  readonly to: string;
  readonly layers: number;
  /** Layers that the target had already. */
  readonly layersThere: number;
  readonly containers: number;
  /** Of the tars of moved layers. */
  readonly bytes: number;
  readonly warnings: readonly string[];
  /** Drivers whose old data were removed. */
  readonly removed: readonly string[];
  /** Drivers whose old data are still there. */
  readonly kept: readonly string[];
};

export type Ground = {
  readonly dataRoot: string;
  readonly database: Database;
  readonly pool: Pool;
  /** Paths of driver modules that were named. */
  readonly modules: readonly string[];
};

export type Sides = {
  readonly source: LayerStore;
  readonly target: LayerStore;
  readonly targetDriver: StorageDriver;
};
