/**
 * The volume store as engines outside use it: volumes by name, each use counted by the id that the other engine gave
 * it. The option `driver` says which driver makes a volume; all other options are the driver's.
 *
 * What is done to one volume is done in order. A use is counted before it is mounted and forgotten before it is
 * unmounted, so that a crash in between never leaves a mount that is used and not known.
 */
import { EngineError, isError } from "../base/errors.ts";
import { isAlive, type ProcessIdentity } from "../host/kernel-process.ts";
import { NameLocks } from "../host/name-locks.ts";
import type { OutsideUse, OutsideUses } from "./outside-uses.ts";
import { whoSees } from "./seen.ts";
import type { Volume, VolumeStore } from "./store.ts";

export type ServedVolumesOptions = {
  readonly store: VolumeStore;
  readonly uses: OutsideUses;
  /** Names of the drivers that are offered, the default first. */
  readonly drivers: readonly string[];
  readonly scope: "local" | "global";
  readonly report: (message: string, error: unknown) => void;
};

/** A volume as another engine sees it; its options stay here, for they may hold secrets. */
export type ServedVolume = {
  readonly name: string;
  readonly mountpoint: string;
  readonly createdAt: string;
  readonly driver: string;
};

/** Milliseconds for which a mount is believed to be on its way into a container: Docker's own deadline for the call. */
const onItsWay = 120_000;

export class ServedVolumes {
  readonly scope: "local" | "global";
  readonly #options: ServedVolumesOptions;
  readonly #locks = new NameLocks();
  /** Where volumes are that have a place only while they are mounted. */
  readonly #paths = new Map<string, string>();

  constructor(options: ServedVolumesOptions) {
    this.scope = options.scope;
    this.#options = options;
  }

  /** Idempotent. Without options: the volume of that name, whatever it is; with others than it was made with: conflict. */
  async create(name: string, given: Readonly<Record<string, string>>): Promise<void> {
    const { driver = this.#options.drivers[0] ?? "", ...options } = given;
    const { drivers, store } = this.#options;
    if (!drivers.includes(driver))
      throw new EngineError(
        "invalid_argument",
        `no driver ${JSON.stringify(driver)} is served; driver= takes ${drivers.join(", ")}`,
      );
    await this.#locks.run(name, async () => {
      const existing = store.find(name);
      if (existing === undefined) await plainly(`create ${name}: `, store.create({ name, driver, options }));
      else if (Object.keys(given).length > 0) refuseOther(existing, driver, options);
    });
  }

  /** Unknown: nothing. Refused with conflict while it is mounted. */
  async remove(name: string): Promise<void> {
    await this.#locks.run(name, async () => {
      await this.#dropLost(name);
      const uses = this.#options.uses.of(name);
      if (uses.length > 0)
        throw new EngineError("conflict", `volume is in use: mounted for ${uses.length} container(s); stop them first`);
      await plainly(`remove ${name}: `, this.#options.store.remove(name, { force: true }));
      this.#paths.delete(name);
    });
  }

  /** Resolves to where the data is. `asker` is the process that mounts it into a container next, where it is known. */
  async mount(name: string, id: string, asker?: ProcessIdentity): Promise<string> {
    return this.#locks.run(name, async () => {
      const { store, uses } = this.#options;
      await store.get(name);
      await uses.add({ volume: name, id, asker, anew: await this.#isNewLife(name, id) });
      try {
        const path = await store.mount(name, id);
        this.#paths.set(name, path);
        return path;
      } catch (error) {
        await uses.take(name, id);
        throw error;
      }
    });
  }

  /** Unknown volume or id: nothing, for the caller wants it gone. */
  async unmount(name: string, id: string): Promise<void> {
    await this.#locks.run(name, async () => {
      if (await this.#options.uses.take(name, id)) await this.#options.store.unmount(name, id);
    });
  }

  /** Throws not_found. */
  async get(name: string): Promise<ServedVolume> {
    return this.#seen(await this.#options.store.get(name));
  }

  async list(): Promise<readonly ServedVolume[]> {
    return (await this.#options.store.list()).volumes.map((volume) => this.#seen(volume));
  }

  /** Takes the uses of an earlier process up again; resolves when each is mounted, or cannot be and was reported. */
  async restore(): Promise<void> {
    const { uses, store, report } = this.#options;
    const again = uses.all().map(({ volume, id }) =>
      this.#locks.run(volume, async () => {
        try {
          this.#paths.set(volume, await store.retake(volume, id));
        } catch (error) {
          if (isError(error, "not_found")) await uses.forget(volume, [id]);
          else report(`the volume ${volume} is used by a container, and could not be mounted again`, error);
        }
      }),
    );
    await Promise.all(again);
  }

  /**
   * A dockerd that was killed mounts with the same id again, and never unmounts for its former life; but one that left
   * its containers running (live restore) will.
   */
  async #isNewLife(name: string, id: string): Promise<boolean> {
    const asker = this.#options.uses.of(name).find((use) => use.id === id)?.asker;
    if (asker === undefined || (await isAlive(asker))) return false;
    return (await whoSees(this.#placeOf(name))) !== "somebody";
  }

  #placeOf(name: string): string {
    return this.#paths.get(name) ?? this.#options.store.find(name)?.mountpoint ?? "";
  }

  /** Uses whose end was never told (their engine was killed) would keep the volume for ever. */
  async #dropLost(name: string): Promise<void> {
    const { uses, store } = this.#options;
    const known = uses.of(name);
    const path = this.#placeOf(name);
    if (known.length === 0 || path === "") return;
    for (const use of known) if (await isOnItsWay(use)) return;
    if ((await whoSees(path)) !== "nobody") return;
    for (const { id } of known) {
      await uses.forget(name, [id]);
      await store.unmount(name, id);
    }
  }

  #seen({ name, mountpoint, createdAt, driver }: Volume): ServedVolume {
    return { name, mountpoint: this.#paths.get(name) ?? mountpoint, createdAt, driver };
  }
}

async function isOnItsWay({ latest, asker }: OutsideUse): Promise<boolean> {
  if (Date.now() - latest > onItsWay) return false;
  return asker === undefined || isAlive(asker);
}

/** Without the words that the asking engine puts before every failure. */
async function plainly(prefix: string, work: Promise<unknown>): Promise<void> {
  try {
    await work;
  } catch (error) {
    if (!(error instanceof EngineError) || !error.message.startsWith(prefix)) throw error;
    throw new EngineError(error.code, error.message.slice(prefix.length), { cause: error });
  }
}

function refuseOther(existing: Volume, driver: string, options: Readonly<Record<string, string>>): void {
  const entries = Object.entries(options);
  const same =
    existing.driver === driver &&
    entries.length === Object.keys(existing.options).length &&
    entries.every(([key, value]) => Object.hasOwn(existing.options, key) && existing.options[key] === value);
  if (same) return;
  throw new EngineError(
    "conflict",
    `volume name must be unique: driver '${existing.driver}' has a volume '${existing.name}' with other options`,
  );
}
