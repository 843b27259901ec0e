/**
 * The daemon's settings: flags and `daemon.json` together, each key from one of them only, as with dockerd. The file is
 * `/etc/strata/daemon.json` unless another is named; only one that was named must exist.
 */
import { readFile } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import * as v from "valibot";
import { EngineError, errorMessage, systemCode } from "../base/errors.ts";
import { anyMap, decodeShape, textList } from "../base/shape.ts";
import { deadlineShape } from "./volume-deadline.ts";

export const defaultConfigFile = "/etc/strata/daemon.json";

const levels = ["debug", "info", "warn", "error", "fatal"] as const;
const text = v.optional(v.string());
const texts = v.optional(textList);

/** Keys of daemon.json; also the shape of the flags once they carry the file's names. */
const settings = v.strictObject({
  "data-root": text,
  "exec-root": text,
  hosts: texts,
  pidfile: text,
  "storage-driver": text,
  "storage-opts": texts,
  "plugin-dirs": texts,
  "volume-deadline": v.optional(deadlineShape),
  debug: v.optional(v.boolean()),
  "log-level": v.optional(v.picklist(levels)),
  labels: texts,
  "insecure-registries": texts,
});

export type Settings = v.InferOutput<typeof settings>;
type Key = keyof Settings;

/** Flag (as commander names it) -> key of daemon.json. */
const flagKeys: Readonly<Record<string, Key>> = {
  dataRoot: "data-root",
  execRoot: "exec-root",
  host: "hosts",
  pidfile: "pidfile",
  storageDriver: "storage-driver",
  storageOpt: "storage-opts",
  pluginDir: "plugin-dirs",
  volumeDeadline: "volume-deadline",
  debug: "debug",
  logLevel: "log-level",
  label: "labels",
  insecureRegistry: "insecure-registries",
};

const invalid = (message: string, cause?: unknown): EngineError =>
  new EngineError("invalid_argument", message, { cause });

/** What flags and file say. Throws invalid_argument that names the file and the key. */
export async function readSettings(flags: Readonly<Record<string, unknown>>): Promise<Settings> {
  const named = typeof flags.configFile === "string" ? flags.configFile : undefined;
  const fromFile = await readConfigFile(named ?? defaultConfigFile, named !== undefined);
  const given = Object.entries(flags).filter(([flag]) => flag !== "configFile");
  const fromFlags = Object.fromEntries(given.map(([flag, value]) => [flagKeys[flag] ?? flag, value]));
  refuseBoth(fromFlags, fromFile);
  return check({ ...fromFile, ...fromFlags }, "the command line");
}

async function readConfigFile(path: string, mustExist: boolean): Promise<Settings> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if (systemCode(error) === "ENOENT" && !mustExist) return {};
    throw invalid(`unable to configure the daemon with file ${path}: ${errorMessage(error)}`, error);
  }
  if (text.trim() === "") return {};
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw invalid(`unable to configure the daemon with file ${path}: it is not JSON: ${errorMessage(error)}`, error);
  }
  return nearFile(check(value, path), path);
}

/** A driver's module that the file names by a relative path stands beside the file, wherever the daemon is started. */
function nearFile(found: Settings, path: string): Settings {
  const driver = found["storage-driver"];
  if (driver?.includes("/") !== true) return found;
  return { ...found, "storage-driver": resolve(dirname(path), driver) };
}

function check(value: unknown, where: string): Settings {
  const decoded = decodeShape(v.pipe(anyMap, settings), value);
  if (decoded.ok) return decoded.value;
  const { path, problem } = decoded;
  const unknown = decoded.unknownKey
    ? Object.keys(value ?? {}).filter((key) => !Object.hasOwn(settings.entries, key))
    : [];
  if (unknown.length > 0)
    throw invalid(
      `unable to configure the daemon with file ${where}: the following directives don't match any configuration option: ${unknown.join(", ")}`,
    );
  throw invalid(`unable to configure the daemon with ${where}: ${path}: ${problem}`);
}

/** dockerd's rule: a key stands in one place, lists too. */
function refuseBoth(fromFlags: Readonly<Record<string, unknown>>, fromFile: Readonly<Record<string, unknown>>): void {
  const both = Object.keys(fromFlags).filter((key) => fromFile[key] !== undefined);
  if (both.length === 0) return;
  const list = both.map((key) => `${key}: (from flag: ${shown(fromFlags[key])}, from file: ${shown(fromFile[key])})`);
  throw invalid(
    `unable to configure the daemon: the following directives are specified both as a flag and in the configuration file: ${list.join(", ")}`,
  );
}

const shown = (value: unknown): string => (Array.isArray(value) ? `[${value.join(" ")}]` : String(value));

/** `key=value` entries as a map. Throws invalid_argument for an entry without `=`. */
export function keyValues(entries: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    entries.map((entry) => {
      const equals = entry.indexOf("=");
      if (equals < 1) throw invalid(`${JSON.stringify(entry)} is not of the form key=value`);
      return [entry.slice(0, equals), entry.slice(equals + 1)];
    }),
  );
}
