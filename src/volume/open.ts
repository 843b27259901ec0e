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
import { syncFilesystem } from "../host/durable.ts";
import { isMountPoint } from "../host/mount.ts";
import type { Pool } from "../host/pool.ts";
import type { Database, Statement } from "../metadata/database.ts";
import type { VolumeDriver, VolumeSpec } from "../volume-driver/driver.ts";
import { copyUpInto, finishCopyUpIn } from "./copy-up.ts";
import type { CopyUpPlace } from "./copy-up-task.ts";
import { listFilter, pruneFilter } from "./filters.ts";
import { NameLocks } from "./name-locks.ts";
import { reconcile } from "./reconcile.ts";
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
  readonly pool: Pool;
  readonly events: EventBus;
};

const anonymousLabel = "com.docker.volume.anonymous";
const defaultDriver = "local";
/** Milliseconds after which the size of a volume counts as unknown. */
const usageDeadline = 30_000;

/** Half-made and half-removed volumes are gone, and volumes without a row have one, when it resolves. */
export async function openVolumeStore(options: VolumeStoreOptions): Promise<VolumeStore> {
  const drivers = new Map(options.drivers.map((driver) => [driver.name, driver]));
  await reconcile(options.database, drivers);
  return new OpenVolumeStore(options, drivers);
}

class OpenVolumeStore implements VolumeStore {
  readonly #options: VolumeStoreOptions;
  readonly #drivers: ReadonlyMap<string, VolumeDriver>;
  readonly #locks = new NameLocks();
  /** Volumes known to hold no interrupted copy-up. */
  readonly #whole = new Set<string>();
  #pruning = false;

  constructor(options: VolumeStoreOptions, drivers: ReadonlyMap<string, VolumeDriver>) {
    this.#options = options;
    this.#drivers = drivers;
  }

  get drivers(): readonly string[] {
    return [...this.#drivers.keys()];
  }

  async create(request: NewVolume): Promise<Volume & { readonly created: boolean }> {
    const volume = newVolume(request);
    return this.#locks.run(volume.name, async () => {
      try {
        const existing = this.find(volume.name);
        if (existing !== undefined) return { ...sameDriver(existing, request.driver), created: false };
        return { ...(await this.#make(volume, request.fill)), created: true };
      } catch (cause) {
        throw new EngineError(errorCode(cause), `create ${volume.name}: ${errorMessage(cause)}`, { cause });
      }
    });
  }

  async get(name: string): Promise<Volume> {
    const volume = this.find(name);
    if (volume === undefined) throw new EngineError("not_found", `get ${name}: no such volume`);
    return volume;
  }

  find(name: string): Volume | undefined {
    const record = findRecord(this.#options.database, name);
    return record?.state === "ready" ? publicOf(record) : undefined;
  }

  async list(filters: VolumeFilters = new Map()): Promise<VolumeList> {
    const referenced = referencedNames(this.#options.database);
    const passes = listFilter(filters, (name) => referenced.has(name));
    return { volumes: this.#ready().filter(passes), warnings: [] };
  }

  async remove(name: string, options: { readonly force: boolean }): Promise<void> {
    await this.#locks.run(name, async () => {
      const volume = this.find(name);
      if (volume === undefined && options.force) return;
      if (volume === undefined) throw new EngineError("not_found", `get ${name}: no such volume`);
      try {
        await this.#unmake(volume);
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
    return this.#locks.run(name, async () => this.#mountWhole(await this.get(name), use));
  }

  async unmount(name: string, use: string): Promise<void> {
    await this.#locks.run(name, async () => {
      const volume = this.find(name);
      if (volume === undefined) return;
      await this.#driver(volume.driver).unmount(specOf(volume), use);
    });
  }

  async copyUp(name: string, source: { readonly root: string; readonly path: string }): Promise<void> {
    await this.#locks.run(name, async () => {
      const volume = await this.get(name);
      const use = `copy-up-${randomBytes(16).toString("hex")}`;
      const path = await this.#mountWhole(volume, use);
      try {
        await copyUpInto(this.#options.pool, this.#placeOf(volume, path), source);
      } catch (error) {
        this.#whole.delete(name);
        throw error;
      } finally {
        await this.#driver(volume.driver).unmount(specOf(volume), use);
      }
    });
  }

  async usage(name: string): Promise<number> {
    const volume = await this.get(name);
    const driver = this.#drivers.get(volume.driver);
    const bytes = await driver?.usage(specOf(volume), AbortSignal.timeout(usageDeadline)).catch(() => undefined);
    return bytes ?? -1;
  }

  async settle(): Promise<void> {
    await Promise.all([...this.#drivers.values()].map((driver) => driver.settle?.()));
  }

  #ready(): readonly Volume[] {
    return listRecords(this.#options.database).filter(isReady).map(publicOf);
  }

  #driver(name: string): VolumeDriver {
    const driver = this.#drivers.get(name);
    if (driver === undefined)
      throw new EngineError("not_found", `error looking up volume plugin ${name}: plugin "${name}" not found`);
    return driver;
  }

  async #make(wanted: Volume, fill: NewVolume["fill"]): Promise<Volume> {
    const { database, events } = this.#options;
    const driver = this.#driver(wanted.driver);
    const spec = specOf(wanted);
    driver.validate(spec);
    await database.transact([insertStatement({ ...wanted, scope: driver.traits.scope }, "creating")]);
    let mountpoint: string;
    try {
      await driver.create(spec);
      if (fill !== undefined) await fillNew(driver, spec, fill);
      mountpoint = (await driver.describe(spec)).mountpoint ?? "";
      await database.transact([readyStatement(wanted.name, mountpoint)]);
    } catch (error) {
      await driver.remove(spec);
      await database.transact([deleteStatement(wanted.name)]);
      throw error;
    }
    events.emit("volume", "create", wanted.name, { driver: wanted.driver });
    return { ...wanted, scope: driver.traits.scope, mountpoint };
  }

  async #unmake(volume: Volume): Promise<void> {
    const { database, events } = this.#options;
    const driver = this.#driver(volume.driver);
    this.#refuseReferenced(volume.name);
    await database.transact([removingStatement(volume.name)]).catch((error: unknown) => {
      this.#refuseReferenced(volume.name);
      throw error;
    });
    try {
      await driver.remove(specOf(volume));
    } catch (error) {
      // What the driver still has is a volume still; what it has no longer needs no row.
      const gone = await driver.describe(specOf(volume)).then(
        () => false,
        (why: unknown) => isError(why, "not_found"),
      );
      if (!gone) {
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
    const prunable = this.#drivers.get(volume.driver)?.traits.prunable === true;
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
    return { volume: path, beside: this.#driver(volume.driver).traits.ownsParent && !isMountPoint(path) };
  }

  /** Mounts; a copy-up that a crash interrupted is finished before anybody sees the volume. */
  async #mountWhole(volume: Volume, use: string): Promise<string> {
    const driver = this.#driver(volume.driver);
    const path = await driver.mount(specOf(volume), use);
    if (this.#whole.has(volume.name)) return path;
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

/** While the row says `creating`, so that a crash takes away what was filled half. */
async function fillNew(driver: VolumeDriver, spec: VolumeSpec, fill: (path: string) => Promise<void>): Promise<void> {
  const use = `fill-${randomBytes(16).toString("hex")}`;
  const path = await driver.mount(spec, use);
  try {
    await fill(path);
    await syncFilesystem(path);
  } finally {
    await driver.unmount(spec, use);
  }
}

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
