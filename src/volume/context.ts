/**
 * What every verb of the volume store works with, and the few looks at records that all of them share. A verb is a
 * function of a context; all that is done to one volume is done under its lock, and volumes do not wait for one another.
 */
import { EngineError } from "../base/errors.ts";
import type { EventBus } from "../base/events.ts";
import type { NameLocks } from "../host/name-locks.ts";
import type { Pool } from "../host/pool.ts";
import type { Remote } from "../host/remote.ts";
import type { Database } from "../metadata/database.ts";
import { isRemote } from "../volume-driver/remote.ts";
import type { Breakers } from "./breaker.ts";
import type { Busy } from "./busy.ts";
import type { Drivers } from "./drivers.ts";
import type { GuardedDriver } from "./guard.ts";
import type { KeptCopies } from "./kept-copies.ts";
import { findRecord, listRecords, publicOf, referencesOf, specOf } from "./records.ts";
import type { Volume } from "./store.ts";

export type VolumeContext = {
  readonly database: Database;
  readonly drivers: Drivers;
  readonly pool: Pool;
  /** For work that takes long. */
  readonly longPool: Pool;
  readonly events: EventBus;
  /** The way to what may hang, and what is known not to answer. */
  readonly remote: Remote;
  readonly breakers: Breakers;
  /** Who this store is among all that may share a volume. */
  readonly owner: string;
  readonly locks: NameLocks;
  readonly busy: Busy;
  /** Volume -> uses that began here and have not ended. */
  readonly uses: Map<string, Set<string>>;
  /** Where full copies are kept that no driver keeps; undefined: nowhere. */
  readonly copies: KeptCopies | undefined;
  /** Volumes known to hold no interrupted copy-up. */
  readonly whole: Set<string>;
  readonly now: { pruning: boolean };
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

export const driverOf = ({ drivers }: VolumeContext, volume: Pick<Volume, "driver">): GuardedDriver =>
  drivers.of(volume.driver);

/** Whoever serves the volume's data may never answer: only children with a deadline look into it. */
export const isRemoteVolume = (context: VolumeContext, volume: Volume): boolean =>
  isRemote(driverOf(context, volume), specOf(volume));

/** Where work on a volume's files runs: in children with deadlines when it may hang. */
export function poolFor(context: VolumeContext, volume: Volume): Pool {
  if (!isRemoteVolume(context, volume)) return context.pool;
  return context.remote.pool(`${volume.driver}/${volume.name}`, `volume ${volume.name} of driver ${volume.driver}`);
}

/** As {@link poolFor} for work that takes long, on the files of all of these. */
export function longPoolFor(context: VolumeContext, ...volumes: readonly Volume[]): Pool {
  const remote = volumes.find((volume) => isRemoteVolume(context, volume));
  return remote === undefined ? context.longPool : poolFor(context, remote);
}

export const missingVolume = (name: string): EngineError => new EngineError("not_found", `get ${name}: no such volume`);

/** Throws conflict, in Docker's words, while containers hold the volume. */
export function refuseReferenced({ database }: VolumeContext, name: string): void {
  const containers = referencesOf(database, name);
  if (containers.length > 0) throw new EngineError("conflict", `volume is in use - [${containers.join(", ")}]`);
}
