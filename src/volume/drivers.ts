/**
 * The drivers behind the store: those of this engine, and foreign ones, which are found when somebody names one or one of
 * their volumes. A foreign driver may be slow or away, so every look at all of them ends within `patience`.
 */
import { EngineError, errorMessage } from "../base/errors.ts";
import type { VolumeDescription, VolumeDriver, VolumeDriverSource } from "../volume-driver/driver.ts";
import { missingOf, sentenceOf } from "../volume-driver/requirements.ts";
import { type GuardedDriver, type GuardOptions, guarded } from "./guard.ts";
import type { VolumeDriverState } from "./store.ts";

/** Milliseconds for a look at what foreign drivers have. */
const patience = 1500;

export const look = (): AbortSignal => AbortSignal.timeout(patience);

export type Found = { readonly driver: VolumeDriver; readonly description: VolumeDescription };
/** What foreign drivers say they have; one that is not in the map did not answer. */
export type ForeignVolumes = {
  readonly names: ReadonlyMap<string, readonly string[]>;
  readonly warnings: readonly string[];
};

export class Drivers {
  readonly known: ReadonlyMap<string, GuardedDriver>;
  readonly #source: VolumeDriverSource | undefined;
  readonly #guarding: GuardOptions;

  constructor(known: readonly VolumeDriver[], source: VolumeDriverSource | undefined, guarding: GuardOptions) {
    this.known = new Map(known.map((driver) => [driver.name, guarded(driver, guarding)]));
    this.#source = source;
    this.#guarding = guarding;
  }

  get names(): readonly string[] {
    return [...new Set([...this.known.keys(), ...(this.#source?.active ?? [])])];
  }

  /** The driver of a volume on record. */
  of(name: string): GuardedDriver {
    const known = this.known.get(name);
    if (known !== undefined) return known;
    const driver = this.#source?.of(name);
    if (driver === undefined) throw unknown(name);
    return guarded(driver, this.#guarding);
  }

  /** The driver for a new volume. */
  async open(name: string): Promise<GuardedDriver> {
    const known = this.known.get(name);
    if (known !== undefined) return known;
    const driver = await this.#source?.open(name);
    if (driver === undefined) throw unknown(name);
    return guarded(driver, this.#guarding);
  }

  /** The foreign driver that has a volume of this name; of several the first by name. */
  async holding(name: string): Promise<Found | undefined> {
    const asked = (await this.#foreign()).map(async (driver) => {
      driver.validate({ name, options: {} });
      return { driver, description: await driver.describe({ name, options: {} }, look()) };
    });
    const found = (await Promise.allSettled(asked)).flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
    return found.sort((a, b) => (a.driver.name < b.driver.name ? -1 : 1))[0];
  }

  /** Warns only of drivers that are `needed`, or have answered before: others may be anything that left a socket. */
  async listForeign(needed: ReadonlySet<string>): Promise<ForeignVolumes> {
    const names = new Map<string, readonly string[]>();
    const warnings: string[] = [];
    const asked = (await this.#foreign()).map(async (driver) => {
      try {
        names.set(driver.name, await driver.list(look()));
      } catch (error) {
        if (!needed.has(driver.name) && this.#source?.active.includes(driver.name) !== true) return;
        warnings.push(`volume driver ${driver.name}: only volumes on record are shown: ${errorMessage(error)}`);
      }
    });
    await Promise.all(asked);
    return { names, warnings: warnings.sort() };
  }

  /** Those of this engine, then foreign ones that can be found now. */
  async states(): Promise<readonly VolumeDriverState[]> {
    const foreign = await this.#foreign();
    return Promise.all([...this.known.values(), ...foreign].map(stateOf));
  }

  async settle(): Promise<void> {
    await Promise.all([...this.known.values()].map((driver) => driver.settle?.()));
    await this.#source?.settle();
  }

  async #foreign(): Promise<readonly VolumeDriver[]> {
    const found = (await this.#source?.discover()) ?? [];
    return found.filter(({ name }) => !this.known.has(name));
  }
}

async function stateOf({ name, traits, snapshots, requirements = [] }: VolumeDriver): Promise<VolumeDriverState> {
  const missing = await missingOf(requirements);
  return {
    name,
    scope: traits.scope,
    sized: traits.sized === true,
    snapshots: snapshots !== undefined,
    foreign: traits.foreign === true,
    missing: missing.length === 0 ? undefined : sentenceOf(name, missing),
  };
}

const unknown = (name: string): EngineError =>
  new EngineError("not_found", `error looking up volume plugin ${name}: plugin ${JSON.stringify(name)} not found`);
