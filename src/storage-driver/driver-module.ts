/**
 * Storage drivers from outside: a *driver module* is a JavaScript (or type-strippable TypeScript) file, named by its
 * path, that exports a `DriverFactory` as `storageDriver`. It runs inside the engine with all its rights.
 *
 * Promises: what a module lacks is told when it is loaded or opened, before anything is kept with it. A failure that the
 * driver throws with a `code` of docs/errors.md counts as understood, so that a module need import nothing of ours.
 */
import { isAbsolute, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { EngineError, type ErrorCode, errorMessage, httpStatus } from "../base/errors.ts";
import type { DriverFactory, StorageDriver } from "./driver.ts";

/** A factory that came from a module, and the absolute path of that. */
export type ModuleFactory = DriverFactory & { readonly module: string };

/** The name that a module exports its factory by. */
export const exportName = "storageDriver";

const namePattern = /^[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*$/;
const longestName = 48;

/** Names that drivers of Docker have or had: what they mean is settled. */
const dockersNames = ["aufs", "btrfs", "devicemapper", "fuse-overlayfs", "overlay", "overlay2", "vfs", "zfs"];

/** Members of the data root beside the drivers' homes (docs/on-disk-format.md): no driver may be called so. */
export const reservedNames: readonly string[] = [
  "containers",
  "drivers",
  "layers",
  "migrating",
  "secrets",
  "staging",
  "staging-build",
  "volume-drivers",
  "volume-snapshots",
  "volumes",
];

const methods = [
  "stage",
  "commit",
  "createWritable",
  "mounts",
  "changes",
  "remove",
  "list",
  "sweep",
  "status",
  "describe",
] as const;

const advice = "see docs/drivers/writing-a-driver.md";

const invalid = (message: string, cause?: unknown): EngineError =>
  new EngineError("invalid_argument", message, { cause });

/** Whether what a person gave as a storage driver is the path of a module, and no name: it holds a slash. */
export function isModulePath(text: string): boolean {
  return text.includes("/");
}

/** Loads the module at `path`; `taken` are names that it may not have. Throws invalid_argument for anything amiss. */
export async function loadDriverModule(path: string, taken: readonly string[] = []): Promise<ModuleFactory> {
  const module = isAbsolute(path) ? path : resolve(path);
  let exported: unknown;
  try {
    exported = Reflect.get(Object(await import(pathToFileURL(module).href)), exportName);
  } catch (error) {
    throw invalid(`the storage driver module ${module} cannot be loaded: ${errorMessage(error)}`, error);
  }
  if (exported === undefined)
    throw invalid(`the storage driver module ${module} exports no "${exportName}"; ${advice}`);
  checkFactory(exported, module);
  checkName(exported.name, module, taken);
  const { name } = exported;
  const factory = exported;
  return {
    name,
    module,
    probe: (home, options) => understood(() => factory.probe(home, options)),
    async open(home, options, context) {
      const driver: unknown = await understood(() => factory.open(home, options, context));
      checkDriver(driver, { name, home, module });
      return understanding(driver);
    },
  };
}

function checkFactory(value: unknown, module: string): asserts value is DriverFactory {
  if (typeof value !== "object" || value === null)
    throw invalid(`"${exportName}" of the storage driver module ${module} is no object; ${advice}`);
  const lacks = ["probe", "open"].filter((method) => typeof Reflect.get(value, method) !== "function");
  if (typeof Reflect.get(value, "name") !== "string") lacks.unshift("name");
  if (lacks.length > 0)
    throw invalid(`"${exportName}" of the storage driver module ${module} lacks ${lacks.join(", ")}; ${advice}`);
}

function checkName(name: string, module: string, taken: readonly string[]): void {
  const where = `the storage driver module ${module} calls its driver ${JSON.stringify(name)}`;
  if (!namePattern.test(name) || name.length > longestName)
    throw invalid(
      `${where}: a name is at most ${longestName} lower-case letters and digits, with single - or _ between`,
    );
  if (taken.includes(name) || dockersNames.includes(name))
    throw invalid(`${where}, which is the name of a driver of Strata or Docker: give it another one`);
  if (reservedNames.includes(name)) throw invalid(`${where}, which names something else in the data root`);
}

type Expected = { readonly name: string; readonly home: string; readonly module: string };

function checkDriver(value: unknown, { name, home, module }: Expected): asserts value is StorageDriver {
  const where = `the driver that the storage driver module ${module} opens`;
  if (typeof value !== "object" || value === null) throw invalid(`${where} is no object; ${advice}`);
  const isFunction = (key: string | symbol): boolean => typeof Reflect.get(value, key) === "function";
  const lacks: string[] = methods.filter((method) => !isFunction(method));
  if (!isFunction(Symbol.asyncDispose)) lacks.push("[Symbol.asyncDispose]");
  if (lacks.length > 0) throw invalid(`${where} lacks ${lacks.join(", ")}; ${advice}`);
  for (const [key, wanted] of [
    ["name", name],
    ["home", home],
  ] as const)
    if (Reflect.get(value, key) !== wanted) throw invalid(`${where} has not the ${key} ${JSON.stringify(wanted)}`);
  const wrong = wrongTraits(Reflect.get(value, "traits"));
  if (wrong !== undefined) throw invalid(`the traits of ${where} are wrong: ${wrong}; ${advice}`);
}

function wrongTraits(traits: unknown): string | undefined {
  const get = (key: string): unknown => Reflect.get(Object(traits), key);
  const { keeps, maxParents, options } = {
    keeps: get("keeps"),
    maxParents: get("maxParents"),
    options: get("containerOptions"),
  };
  if (keeps !== "diff" && keeps !== "whole") return 'keeps is "diff" or "whole"';
  if (typeof maxParents !== "number" || !Number.isInteger(maxParents) || maxParents < 1)
    return "maxParents is a number of layers";
  if (typeof get("sharesBlocks") !== "boolean") return "sharesBlocks is true or false";
  if (!Array.isArray(options) || options.some((option) => typeof option !== "string"))
    return "containerOptions is a list of names";
  return undefined;
}

/** The driver, whose failures are {@link understood}; members that are no functions are its own. */
function understanding(driver: StorageDriver): StorageDriver {
  return new Proxy(driver, {
    get(target, key) {
      const value: unknown = Reflect.get(target, key, target);
      if (typeof value !== "function") return value;
      return (...given: readonly unknown[]) => understood(() => Reflect.apply(value, target, given));
    },
  });
}

/** Calls; what is thrown, now or later, with a code of ours becomes an EngineError. */
function understood<T>(call: () => T): T {
  try {
    const result = call();
    return result instanceof Promise ? (result.catch((error: unknown) => rethrow(error)) as T) : result;
  } catch (error) {
    return rethrow(error);
  }
}

function rethrow(error: unknown): never {
  const code: unknown = Reflect.get(Object(error), "code");
  if (error instanceof EngineError || typeof code !== "string" || !isErrorCode(code)) throw error;
  throw new EngineError(code, errorMessage(error), { cause: error });
}

const isErrorCode = (code: string): code is ErrorCode => Object.hasOwn(httpStatus, code);
