/**
 * What every verb of the volume store works with, and the few looks at records that all of them share. A verb is a
 * function of a context; all that is done to one volume is done under its lock, and volumes do not wait for one another.
 */
import { EngineError } from "../base/errors.ts";
import type { EventBus } from "../base/events.ts";
import type { Pool } from "../host/pool.ts";
import type { Database } from "../metadata/database.ts";
import type { VolumeDriver } from "../volume-driver/driver.ts";
import type { Drivers } from "./drivers.ts";
import type { NameLocks } from "./name-locks.ts";
import { findRecord, listRecords, publicOf, referencesOf } from "./records.ts";
import type { Volume } from "./store.ts";

export type VolumeContext = {
  readonly database: Database;
  readonly drivers: Drivers;
  readonly pool: Pool;
  readonly events: EventBus;
  readonly locks: NameLocks;
  /** Volumes known to hold no interrupted copy-up. */
  readonly whole: Set<string>;
  /** `settled`: every container that outlived the engine has its volumes again. */
  readonly now: { pruning: boolean; settled: boolean };
};

/** The volume on record, if it is ready. */
export function findVolume({ database }: VolumeContext, name: string): Volume | undefined {
  const record = findRecord(database, name);
  return record?.state === "ready" ? publicOf(record) : undefined;
}

/** As {@link findVolume}; throws not_found. */
export function haveVolume(context: VolumeContext, name: string): Volume {
  const volume = findVolume(context, name);
  if (volume === undefined) throw missingVolume(name);
  return volume;
}

export const readyVolumes = ({ database }: VolumeContext): readonly Volume[] =>
  listRecords(database)
    .filter(({ state }) => state === "ready")
    .map(publicOf);

export const driverOf = ({ drivers }: VolumeContext, volume: Pick<Volume, "driver">): VolumeDriver =>
  drivers.of(volume.driver);

export const missingVolume = (name: string): EngineError => new EngineError("not_found", `get ${name}: no such volume`);

/** Throws conflict, in Docker's words, while containers hold the volume. */
export function refuseReferenced({ database }: VolumeContext, name: string): void {
  const containers = referencesOf(database, name);
  if (containers.length > 0) throw new EngineError("conflict", `volume is in use - [${containers.join(", ")}]`);
}
