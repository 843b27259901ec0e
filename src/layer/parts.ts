/** What the verbs of the layer store share. `id` always means the driver's id of a layer or writable. */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import type { Pool } from "../host/pool.ts";
import type { LayerRef, StorageDriver } from "../storage-driver/driver.ts";
import type { DiffRecords } from "./diff-records.ts";
import type { Records } from "./records.ts";
import type { TemporaryMounts } from "./temporary-mounts.ts";

export type Parts = {
  /** `<data root>/layers`: recipes and markers. */
  readonly folder: string;
  /** `<exec root>/layers`: mounted writables. */
  readonly mountFolder: string;
  readonly driver: StorageDriver;
  readonly pool: Pool;
  readonly records: Records;
  readonly diffRecords: DiffRecords;
  readonly mounts: TemporaryMounts;
};

/** A new id for a driver. */
export const randomId = (): string => randomBytes(16).toString("hex");

/** Where the recipe stands that makes a layer's tar again (archive/restore-tar.ts). */
export const recipePath = (parts: Parts, id: string): string => join(parts.folder, "recipes", id);

/** The layer as its driver wants it: with everything below. */
export function refOf(parts: Parts, id: string): LayerRef {
  const [, ...parents] = parts.records.ancestry(id);
  return { id, parents };
}

/** Where a layer's files stand: the diff instead of a layer that has only a root of its own. */
export function shownOf(parts: Parts, id: string): LayerRef {
  const [top = id, ...parents] = parts.records.ancestry(id, 0);
  return { id: top, parents };
}
