/**
 * Where plugins are: a plugin's name leads to an address by a socket or by a file that names one, in the folders and in
 * the order of moby's pkg/plugins. Nothing is kept: a plugin that comes back elsewhere is found there.
 */
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { EngineError, systemCode } from "../base/errors.ts";
import { type PluginAddress, parseJsonFile, parseSpec } from "./address.ts";

export type PluginFolders = {
  /** `NAME.sock` or `NAME/NAME.sock`. */
  readonly sockets: readonly string[];
  /** `NAME.spec` or `NAME.json`, each also one folder deeper. */
  readonly specs: readonly string[];
};

/** Docker's own. */
export const dockerPluginFolders: PluginFolders = {
  sockets: ["/run/docker/plugins"],
  specs: ["/etc/docker/plugins", "/usr/lib/docker/plugins"],
};

/** A name is one path component: what a user asks for must not lead out of the folders. */
const namePattern = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$/;
/** Bytes of a file that names an address. */
const largestFile = 65_536;

/** The address of a plugin, or undefined when nothing names it. Throws invalid_argument for a file that is none. */
export async function findPlugin(name: string, folders: PluginFolders): Promise<PluginAddress | undefined> {
  if (!namePattern.test(name)) return undefined;
  for (const folder of folders.sockets)
    for (const path of pathsOf(folder, name, ".sock")) if (await isSocket(path)) return { kind: "unix", path };
  for (const folder of folders.specs) {
    for (const path of pathsOf(folder, name, ".spec")) {
      const text = await readSmall(path);
      if (text !== undefined) return parseSpec(text, path);
    }
    for (const path of pathsOf(folder, name, ".json")) {
      const text = await readSmall(path);
      if (text !== undefined) return parseJsonFile(text, path);
    }
  }
  return undefined;
}

/** Names that have an address, sorted. */
export async function listPlugins(folders: PluginFolders): Promise<readonly string[]> {
  const names = new Set<string>();
  for (const folder of folders.sockets) await scan(folder, [".sock"], names);
  for (const folder of folders.specs) await scan(folder, [".spec", ".json"], names);
  return [...names].filter((name) => namePattern.test(name)).sort();
}

const pathsOf = (folder: string, name: string, ending: string): readonly string[] => [
  join(folder, `${name}${ending}`),
  join(folder, name, `${name}${ending}`),
];

async function scan(folder: string, endings: readonly string[], names: Set<string>): Promise<void> {
  for (const entry of await namesIn(folder)) {
    const ending = endings.find((end) => entry.endsWith(end));
    if (ending !== undefined) names.add(entry.slice(0, -ending.length));
    else if (namePattern.test(entry)) {
      const inside = new Set(await namesIn(join(folder, entry)));
      if (endings.some((end) => inside.has(`${entry}${end}`))) names.add(entry);
    }
  }
}

const absent: ReadonlySet<string> = new Set(["ENOENT", "ENOTDIR"]);

async function namesIn(folder: string): Promise<readonly string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (absent.has(systemCode(error) ?? "")) return [];
    throw error;
  }
}

async function isSocket(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isSocket();
  } catch (error) {
    if (absent.has(systemCode(error) ?? "")) return false;
    throw error;
  }
}

async function readSmall(path: string): Promise<string | undefined> {
  try {
    const found = await stat(path);
    if (!found.isFile()) return undefined;
    if (found.size > largestFile)
      throw new EngineError("invalid_argument", `${path} is too large for a plugin's address`);
    return await readFile(path, "utf8");
  } catch (error) {
    if (absent.has(systemCode(error) ?? "")) return undefined;
    throw error;
  }
}
