/**
 * Which storage driver a data root uses: the one that was configured (by its name, or by the path of its module), else
 * the one that it was moved to (`strata migrate`), else the one whose data stand there already, else the first of the list that works (moby graphdriver.New). Each driver's
 * home is `<root>/<its name>`. A module, and a driver of the list `namedOnly`, is taken only when a person names it.
 */
import { type Dirent, existsSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { EngineError } from "../base/errors.ts";
import type { DriverContext, DriverFactory, StorageDriver } from "./driver.ts";
import { isModulePath, loadDriverModule, type ModuleFactory } from "./driver-module.ts";
import { lastResort, namedOnly, storageDrivers } from "./list.ts";
import { neededModule, type RecordedModule, recordedModules, recordModule } from "./module-record.ts";

export type SelectOptions = {
  /** The engine's data root. */
  readonly root: string;
  /** The driver that a person asked for: a name, or the path of a driver module. */
  readonly configured?: string;
  /** The driver that the data root was moved to; counts where nobody asked for one. */
  readonly recorded?: string | undefined;
  /** Paths of driver modules that the person named elsewhere: `configured` may be the name of one of their drivers. */
  readonly modules?: readonly string[];
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
  if (isFromModule(factory)) await recordModule(root, factory);
  return factory.open(join(root, factory.name), options.options, context);
}

const isFromModule = (factory: DriverFactory): factory is ModuleFactory => "module" in factory;

/** The choice alone. Makes nothing. */
export async function selectStorageDriver(options: SelectOptions): Promise<DriverFactory> {
  const { root, configured, recorded, drivers = storageDrivers } = options;
  if (configured !== undefined && configured !== "") return requested(configured, options);
  if (recorded !== undefined) return requested(recorded, options, "the data were moved to it");
  const prior = await priorDrivers(root, drivers);
  const [only, ...others] = prior;
  if (others.length > 0)
    throw new EngineError(
      "conflict",
      `${root} contains several valid graphdrivers: ${prior.map(({ name }) => name).join(", ")}; please cleanup or explicitly choose storage driver (-s <DRIVER>)`,
    );
  if (only === undefined) return firstThatWorks(options);
  if ("module" in only)
    throw new EngineError("unsupported", `${root} holds data of another driver: ${neededModule(only)}`);
  if (drivers.includes(only)) return working(only, options, "its data stand there");
  throw new EngineError(
    "unsupported",
    `${root} holds data of the storage driver ${only.name}, which is used only when it is asked for: start with --storage-driver ${only.name}, or with another one`,
  );
}

async function requested(name: string, options: SelectOptions, why = "it was chosen"): Promise<DriverFactory> {
  const { drivers = storageDrivers, root, modules = [] } = options;
  const taken = [...drivers, ...storageDrivers, ...namedOnly].map((driver) => driver.name);
  if (isModulePath(name)) return working(await loadDriverModule(name, taken), options, "it was chosen");
  const loaded = await Promise.all(modules.map((path) => loadDriverModule(path, taken)));
  const factory = [...drivers, ...namedOnly, ...loaded].find((driver) => driver.name === name);
  if (factory !== undefined) return working(factory, options, why);
  const module = (await recordedModules(root)).find((record) => record.name === name);
  if (module !== undefined) throw new EngineError("invalid_argument", neededModule(module));
  const known = [...drivers, ...namedOnly].map((driver) => driver.name).join(", ");
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

/** Drivers whose data stand in `root`; those from outside as their records. */
async function priorDrivers(
  root: string,
  drivers: readonly DriverFactory[],
): Promise<(DriverFactory | RecordedModule)[]> {
  const prior: (DriverFactory | RecordedModule)[] = [];
  for (const candidate of [...drivers, ...namedOnly, ...(await recordedModules(root))])
    if (candidate.name !== lastResort.name && (await holdsData(join(root, candidate.name)))) prior.push(candidate);
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
