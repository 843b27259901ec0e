/**
 * The dataset under which a driver keeps its own: the one that `zfs.fsname` names, else the one that the home stands on
 * (moby zfs.Init).
 */
import { realpathSync } from "node:fs";
import { EngineError } from "../../base/errors.ts";
import { mountTable } from "../../host/mount.ts";
import { nearestExisting } from "../filesystem.ts";

const fsname = "zfs.fsname";
const component = "[A-Za-z0-9][A-Za-z0-9_.:-]*";
const datasetPattern = new RegExp(`^${component}(/${component})*$`);

const isOurs = (key: string): boolean => key.toLowerCase() === fsname;

/** Throws invalid_argument, in Docker's words, for an option that is not this driver's. */
export function checkDaemonOptions(options: Readonly<Record<string, string>>): void {
  for (const key of Object.keys(options))
    if (!isOurs(key)) throw new EngineError("invalid_argument", `Unknown option ${key.toLowerCase()}`);
}

/** The dataset's name. Throws unsupported where there is none. */
export async function parentDataset(home: string, options: Readonly<Record<string, string>>): Promise<string> {
  const [, named] = Object.entries(options).findLast(([key]) => isOurs(key)) ?? [];
  if (named !== undefined && !datasetPattern.test(named))
    throw new EngineError("invalid_argument", `zfs: ${fsname} must name a dataset, not ${JSON.stringify(named)}`);
  if (named !== undefined) return named;
  const above = realpathSync(await nearestExisting(home));
  const holds = (target: string): boolean => target === "/" || above === target || above.startsWith(`${target}/`);
  const deepest = mountTable()
    .filter(({ target }) => holds(target))
    .reduce((best, entry) => (entry.target.length >= best.target.length ? entry : best));
  if (deepest.type === "zfs" || deepest.type === "fuse.zfs") return deepest.source;
  const words = `${home} is on ${deepest.type}; the zfs driver needs it on a ZFS dataset, or one named by ${fsname}`;
  throw new EngineError("unsupported", words);
}
