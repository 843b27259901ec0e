/**
 * Opens the volume store: names over many drivers. What is acknowledged is a row `ready` and data behind it; every
 * other combination that a crash can leave is mended here, in both directions.
 *
 * Order: create = row `creating`, driver, row `ready`; remove = row `removing`, driver, no row. All that is done to
 * one volume is done under its lock; volumes do not wait for one another.
 */
import { randomBytes } from "node:crypto";
import { EngineError, errorCode, errorMessage, isError } from "../base/errors.ts";
import type { EventBus } from "../base/events.ts";
import { isMountPoint } from "../host/mount.ts";
import type { Pool } from "../host/pool.ts";
import type { Database, Statement } from "../metadata/database.ts";
import type { VolumeDescription, VolumeDriver, VolumeDriverSource } from "../volume-driver/driver.ts";
import { copyUpInto, finishCopyUpIn } from "./copy-up.ts";
import type { CopyUpPlace } from "./copy-up-task.ts";
import { Drivers, look } from "./drivers.ts";
import { listFilter, pruneFilter } from "./filters.ts";
import { described, fillNew, foreignVolume, isLost, withForeign } from "./foreign.ts";
import { NameLocks } from "./name-locks.ts";
import { finishRemoval, reconcile } from "./reconcile.ts";
import {
  deleteStatement,
  findRecord,
  holdStatement,
  insertStatement,
  listRecords,
  publicOf,
  readyStatement,
  referencedNames,
  referencesOf,
  releaseStatement,
  removingStatement,
  specOf,
  type VolumeRecord,
} from "./records.ts";
import type { NewVolume, Volume, VolumeFilters, VolumeList, VolumeStore } from "./store.ts";

export type VolumeStoreOptions = {
  readonly database: Database;
  /** The first is the default. */
  readonly drivers: readonly VolumeDriver[];
  /** Drivers from outside, by name; none when undefined. */
  readonly foreign?: VolumeDriverSource | undefined;
  readonly pool: Pool;
  readonly events: EventBus;
};

const anonymousLabel = "com.docker.volume.anonymous";
const defaultDriver = "local";
/** Milliseconds after which the size of a volume counts as unknown. */
const usageDeadline = 30_000;

/** Half-made and half-removed volumes are gone, and volumes without a row have one, when it resolves. */
export async function openVolumeStore(options: VolumeStoreOptions): Promise<VolumeStore> {
  const drivers = new Drivers(options.drivers, options.foreign);
  await reconcile(options.database, drivers.known);
  return new OpenVolumeStore(options, drivers);
}

class OpenVolumeStore implements VolumeStore {
  readonly #options: VolumeStoreOptions;
  readonly #drivers: Drivers;
  readonly #locks = new NameLocks();
  /** Volumes known to hold no interrupted copy-up. */
  readonly #whole = new Set<string>();
  #pruning = false;
  #settled = false;

  constructor(options: VolumeStoreOptions, drivers: Drivers) {
    this.#options = options;
    this.#drivers = drivers;
  }

  get drivers(): readonly string[] {
    return this.#drivers.names;
  }

  async create(request: NewVolume): Promise<Volume & { readonly created: boolean }> {
    const volume = newVolume(request);
    return this.#locks.run(volume.name, async () => {
      try {
        const existing = await this.#existing(volume, request);
        if (existing !== undefined) return { ...sameDriver(existing, request.driver), created: false };
        return await this.#make(volume, request.fill);
      } catch (cause) {
        throw new EngineError(errorCode(cause), `create ${volume.name}: ${errorMessage(cause)}`, { cause });
      }
    });
  }

  async get(name: string): Promise<Volume> {
    const volume = this.find(name) ?? (await this.#locks.run(name, () => this.#found(name)));
    if (volume === undefined) throw missing(name);
    const driver = this.#drivers.of(volume.driver);
    if (driver.traits.foreign !== true) return volume;
    try {
      const { mountpoint = "", status } = await driver.describe(specOf(volume), look());
      return { ...volume, mountpoint, ...(status === undefined ? {} : { status }) };
    } catch (error) {
      if (isError(error, "not_found")) throw missing(name);
      return volume;
    }
  }

  find(name: string): Volume | undefined {
    const record = findRecord(this.#options.database, name);
    return record?.state === "ready" ? publicOf(record) : undefined;
  }

  async list(filters: VolumeFilters = new Map()): Promise<VolumeList> {
    const referenced = referencedNames(this.#options.database);
    const passes = listFilter(filters, (name) => referenced.has(name));
    const needed = new Set(this.#ready().map(({ driver }) => driver));
    const { names, warnings } = await this.#drivers.listForeign(needed);
    const all = withForeign(this.#ready(), {
      names,
      referenced,
      scopeOf: (name) => this.#drivers.of(name).traits.scope,
    });
    return { volumes: all.filter(passes), warnings };
  }

  async remove(name: string, options: { readonly force: boolean }): Promise<void> {
    await this.#locks.run(name, async () => {
      const volume = this.find(name) ?? (await this.#found(name));
      if (volume === undefined && options.force) return;
      if (volume === undefined) throw missing(name);
      try {
        await this.#unmake(volume, options.force);
      } catch (cause) {
        throw new EngineError(errorCode(cause), `remove ${name}: ${errorMessage(cause)}`, { cause });
      }
    });
  }

  async prune(filters: VolumeFilters): Promise<{ readonly removed: readonly string[]; readonly reclaimed: number }> {
    const passes = pruneFilter(filters);
    if (this.#pruning) throw new EngineError("conflict", "a prune operation is already running");
    this.#pruning = true;
    try {
      const removed: string[] = [];
      let reclaimed = 0;
      for (const volume of this.#ready()) {
        if (!passes(volume) || !this.#mayPrune(volume)) continue;
        const bytes = await this.#pruneOne(volume);
        if (bytes === undefined) continue;
        removed.push(volume.name);
        reclaimed += bytes;
      }
      this.#options.events.emit("volume", "prune", "", { reclaimed: String(reclaimed) });
      return { removed, reclaimed };
    } finally {
      this.#pruning = false;
    }
  }

  references(name: string): readonly string[] {
    return referencesOf(this.#options.database, name);
  }

  holdStatements(container: string, names: readonly string[]): readonly Statement[] {
    return [...new Set(names)].map((name) => holdStatement(container, name));
  }

  releaseStatements(container: string): readonly Statement[] {
    return [releaseStatement(container)];
  }

  async mount(name: string, use: string): Promise<string> {
    return this.#locks.run(name, async () => this.#mountWhole(this.#have(name), use));
  }

  async unmount(name: string, use: string): Promise<void> {
    await this.#locks.run(name, async () => {
      const volume = this.find(name);
      if (volume === undefined) return;
      await this.#drivers.of(volume.driver).unmount(specOf(volume), use);
    });
  }

  async copyUp(name: string, source: { readonly root: string; readonly path: string }): Promise<void> {
    await this.#locks.run(name, async () => {
      const volume = this.#have(name);
      const use = `copy-up-${randomBytes(16).toString("hex")}`;
      const path = await this.#mountWhole(volume, use);
      try {
        await copyUpInto(this.#options.pool, this.#placeOf(volume, path), source);
      } catch (error) {
        this.#whole.delete(name);
        throw error;
      } finally {
        await this.#drivers.of(volume.driver).unmount(specOf(volume), use);
      }
    });
  }

  async usage(name: string): Promise<number> {
    const volume = this.find(name);
    // Known to a foreign driver only, or gone meanwhile.
    if (volume === undefined) return -1;
    const driver = this.#drivers.known.get(volume.driver);
    const bytes = await driver?.usage(specOf(volume), AbortSignal.timeout(usageDeadline)).catch(() => undefined);
    return bytes ?? -1;
  }

  async settle(): Promise<void> {
    this.#settled = true;
    await this.#drivers.settle();
  }

  #ready(): readonly Volume[] {
    return listRecords(this.#options.database).filter(isReady).map(publicOf);
  }

  #have(name: string): Volume {
    const volume = this.find(name);
    if (volume === undefined) throw missing(name);
    return volume;
  }

  /** The volume that a create means: on record, unless its foreign driver has lost it; or one that a foreign driver has. */
  async #existing(wanted: Volume, request: NewVolume): Promise<Volume | undefined> {
    const existing = this.find(wanted.name);
    if (existing === undefined) {
      if (request.driver || !request.name) return undefined;
      return this.#found(wanted.name);
    }
    const driver = this.#drivers.of(existing.driver);
    if (driver.traits.foreign !== true || !(await isLost(driver, existing))) return existing;
    this.#refuseReferenced(existing.name);
    await this.#options.database.transact([deleteStatement(existing.name)]);
    return undefined;
  }

  /** A volume that a foreign driver has and nobody has a record of: it gets one. */
  async #found(name: string): Promise<Volume | undefined> {
    await this.#finishLeft(name);
    const found = await this.#drivers.holding(name);
    return found && this.#record(foreignVolume(name, found.driver.name, found.driver.traits.scope), found.description);
  }

  async #record(volume: Volume, { mountpoint = "", createdAt }: VolumeDescription): Promise<Volume> {
    const known = { ...volume, mountpoint, createdAt: createdAt ?? (volume.createdAt || new Date().toISOString()) };
    await this.#options.database.transact([insertStatement(known, "ready")]);
    return known;
  }

  /** What was half-made or half-removed while its driver was away. */
  async #finishLeft(name: string): Promise<void> {
    const left = findRecord(this.#options.database, name);
    if (left === undefined || left.state === "ready") return;
    await finishRemoval(this.#options.database, this.#drivers.of(left.driver), left);
  }

  async #make(wanted: Volume, fill: NewVolume["fill"]): Promise<Volume & { readonly created: boolean }> {
    const { database, events } = this.#options;
    const driver = await this.#drivers.open(wanted.driver);
    const spec = specOf(wanted);
    const { scope, foreign } = driver.traits;
    driver.validate(spec);
    await this.#finishLeft(wanted.name);
    const there = foreign === true ? await described(driver, spec) : undefined;
    if (there !== undefined) return { ...(await this.#record({ ...wanted, scope }, there)), created: false };
    await database.transact([insertStatement({ ...wanted, scope }, "creating")]);
    let made = foreign !== true;
    let mountpoint: string;
    try {
      await driver.create(spec);
      made = true;
      if (fill !== undefined) await fillNew(driver, spec, fill);
      mountpoint = (await driver.describe(spec)).mountpoint ?? "";
      await database.transact([readyStatement(wanted.name, mountpoint)]);
    } catch (error) {
      if (made) await driver.remove(spec);
      await database.transact([deleteStatement(wanted.name)]);
      throw error;
    }
    events.emit("volume", "create", wanted.name, { driver: wanted.driver });
    return { ...wanted, scope, mountpoint, created: true };
  }

  async #unmake(volume: Volume, force: boolean): Promise<void> {
    const { database, events } = this.#options;
    const driver = this.#drivers.of(volume.driver);
    this.#refuseReferenced(volume.name);
    await database.transact([removingStatement(volume.name)]).catch((error: unknown) => {
      this.#refuseReferenced(volume.name);
      throw error;
    });
    try {
      await driver.remove(specOf(volume));
    } catch (error) {
      // What the driver still has is a volume still; what it has no longer needs no row.
      const forgotten = force && driver.traits.foreign === true && !isError(error, "conflict");
      if (!forgotten && !(await isLost(driver, volume))) {
        await database.transact([deleteStatement(volume.name), insertStatement(volume, "ready")]);
        throw error;
      }
    }
    // The removal is on record already: start-up would end it.
    await database.transact([deleteStatement(volume.name)], { durable: false });
    this.#whole.delete(volume.name);
    events.emit("volume", "destroy", volume.name, { driver: volume.driver });
  }

  #refuseReferenced(name: string): void {
    const containers = this.references(name);
    if (containers.length > 0) throw new EngineError("conflict", `volume is in use - [${containers.join(", ")}]`);
  }

  #mayPrune(volume: Volume): boolean {
    const prunable = this.#drivers.known.get(volume.driver)?.traits.prunable === true;
    return prunable && Object.keys(volume.options).length === 0 && this.references(volume.name).length === 0;
  }

  /** Bytes given back, or undefined when somebody took the volume, or removed it, meanwhile. */
  async #pruneOne(volume: Volume): Promise<number | undefined> {
    try {
      const bytes = await this.usage(volume.name);
      await this.remove(volume.name, { force: false });
      return Math.max(bytes, 0);
    } catch (error) {
      if (isError(error, "conflict") || isError(error, "not_found")) return undefined;
      throw error;
    }
  }

  #placeOf(volume: Volume, path: string): CopyUpPlace {
    return { volume: path, beside: this.#drivers.of(volume.driver).traits.ownsParent && !isMountPoint(path) };
  }

  /** Mounts; a copy-up that a crash interrupted is finished before anybody sees the volume. */
  async #mountWhole(volume: Volume, use: string): Promise<string> {
    const driver = this.#drivers.of(volume.driver);
    const path = await driver.mount(specOf(volume), use);
    if (this.#whole.has(volume.name)) return path;
    // Taken up again under a container that runs: what a foreign driver shows may not answer, and start-up does not wait.
    if (driver.traits.foreign === true && !this.#settled) return path;
    try {
      await finishCopyUpIn(this.#options.pool, this.#placeOf(volume, path));
    } catch (error) {
      await driver.unmount(specOf(volume), use);
      throw error;
    }
    this.#whole.add(volume.name);
    return path;
  }
}

const missing = (name: string): EngineError => new EngineError("not_found", `get ${name}: no such volume`);

const isReady = (record: VolumeRecord): boolean => record.state === "ready";

function newVolume(request: NewVolume): Volume {
  const anonymous = request.name === undefined || request.name === "";
  const labels = request.labels ?? {};
  const createdAt = request.createdAt ?? new Date().toISOString().replace(/\.\d+Z$/, "Z");
  return {
    name: anonymous ? randomBytes(32).toString("hex") : (request.name ?? ""),
    driver: request.driver === undefined || request.driver === "" ? defaultDriver : request.driver,
    options: request.options ?? {},
    labels: anonymous ? { ...labels, [anonymousLabel]: "" } : labels,
    // Docker knows a volume without a name by its label.
    anonymous: anonymous || anonymousLabel in labels,
    createdAt,
    mountpoint: "",
    scope: "local",
  };
}

function sameDriver(existing: Volume, driver: string | undefined): Volume {
  if (driver === undefined || driver === "" || driver === existing.driver) return existing;
  throw new EngineError(
    "conflict",
    `driver '${existing.driver}' already has volume '${existing.name}': volume name must be unique`,
  );
}
