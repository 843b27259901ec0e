/**
 * The dataset under which a driver keeps its own: the one that `zfs.fsname` names, else the one that the home stands on
 * (moby zfs.Init).
 */
import { EngineError } from "../../base/errors.ts";
import { datasetHolding, isDatasetName } from "../../host/zfs-dataset.ts";

const fsname = "zfs.fsname";

const isOurs = (key: string): boolean => key.toLowerCase() === fsname;

/** Throws invalid_argument, in Docker's words, for an option that is not this driver's. */
export function checkDaemonOptions(options: Readonly<Record<string, string>>): void {
  for (const key of Object.keys(options))
    if (!isOurs(key)) throw new EngineError("invalid_argument", `Unknown option ${key.toLowerCase()}`);
}

/** The dataset's name. Throws unsupported where there is none. */
export async function parentDataset(home: string, options: Readonly<Record<string, string>>): Promise<string> {
  const [, named] = Object.entries(options).findLast(([key]) => isOurs(key)) ?? [];
  if (named !== undefined && !isDatasetName(named))
    throw new EngineError("invalid_argument", `zfs: ${fsname} must name a dataset, not ${JSON.stringify(named)}`);
  if (named !== undefined) return named;
  const { dataset, type } = await datasetHolding(home);
  if (dataset !== undefined) return dataset;
  const words = `${home} is on ${type}; the zfs driver needs it on a ZFS dataset, or one named by ${fsname}`;
  throw new EngineError("unsupported", words);
}
