/**
 * Which storage driver a data root uses: the one that was configured, else the one whose data stand there already, else
 * the first of the list that works (moby graphdriver.New). Each driver's home is `<root>/<its name>`.
 */
import { type Dirent, existsSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { EngineError } from "../base/errors.ts";
import type { DriverContext, DriverFactory, StorageDriver } from "./driver.ts";
import { lastResort, storageDrivers } from "./list.ts";

export type SelectOptions = {
  /** The engine's data root. */
  readonly root: string;
  /** The driver that a person asked for. */
  readonly configured?: string;
  /** The daemon's `--storage-opt` entries. */
  readonly options: Readonly<Record<string, string>>;
  readonly context: DriverContext;
  /** The drivers to choose from, in order; tests hand in their own. */
  readonly drivers?: readonly DriverFactory[];
};

/** Chooses and opens. Throws invalid_argument for an unknown name, unsupported where the choice cannot work, conflict where data of several drivers stand. */
export async function openStorageDriver(options: SelectOptions): Promise<StorageDriver> {
  const { root, context } = options;
  const factory = await selectStorageDriver(options);
  return factory.open(join(root, factory.name), options.options, context);
}

/** The choice alone. Makes nothing. */
export async function selectStorageDriver(options: SelectOptions): Promise<DriverFactory> {
  const { root, configured, drivers = storageDrivers } = options;
  if (configured !== undefined && configured !== "") return requested(configured, options);
  const prior = await priorDrivers(root, drivers);
  const [only, ...others] = prior;
  if (only !== undefined && others.length > 0)
    throw new EngineError(
      "conflict",
      `${root} contains several valid graphdrivers: ${prior.map(({ name }) => name).join(", ")}; please cleanup or explicitly choose storage driver (-s <DRIVER>)`,
    );
  if (only !== undefined) return working(only, options, "its data stand there");
  return firstThatWorks(options);
}

async function requested(name: string, options: SelectOptions): Promise<DriverFactory> {
  const { drivers = storageDrivers } = options;
  const factory = drivers.find((driver) => driver.name === name);
  if (factory !== undefined) return working(factory, options, "it was chosen");
  const known = drivers.map((driver) => driver.name).join(", ");
  throw new EngineError("invalid_argument", `unknown storage driver ${JSON.stringify(name)}; known are: ${known}`);
}

const probe = (factory: DriverFactory, { root, options }: SelectOptions): Promise<string | undefined> =>
  factory.probe(join(root, factory.name), options);

async function working(factory: DriverFactory, options: SelectOptions, why: string): Promise<DriverFactory> {
  const reason = await probe(factory, options);
  if (reason === undefined) return factory;
  throw new EngineError("unsupported", `storage driver ${factory.name} (${why}) cannot be used: ${reason}`);
}

async function firstThatWorks(options: SelectOptions): Promise<DriverFactory> {
  const { root, drivers = storageDrivers } = options;
  const reasons: string[] = [];
  for (const factory of drivers) {
    const reason = await probe(factory, options);
    if (reason === undefined) return factory;
    reasons.push(`${factory.name}: ${reason}`);
  }
  throw new EngineError("unsupported", `no storage driver works at ${root}: ${reasons.join("; ")}`);
}

async function priorDrivers(root: string, drivers: readonly DriverFactory[]): Promise<DriverFactory[]> {
  const prior: DriverFactory[] = [];
  for (const factory of drivers)
    if (factory.name !== lastResort.name && (await holdsData(join(root, factory.name)))) prior.push(factory);
  return prior;
}

/** True when anything but empty folders stands in `home`: a driver that was opened and never used has left only those. */
async function holdsData(home: string): Promise<boolean> {
  if (!existsSync(home)) return false;
  for (const entry of await readdir(home, { withFileTypes: true }))
    if (!entry.name.startsWith(".") && (await isUsed(home, entry))) return true;
  return false;
}

async function isUsed(home: string, entry: Dirent): Promise<boolean> {
  return !entry.isDirectory() || (await readdir(join(home, entry.name))).length > 0;
}
