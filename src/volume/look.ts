/** Looks at volumes: one, many, and how much is in one. Nothing here waits for a foreign driver longer than its deadline. */
import { isError } from "../base/errors.ts";
import { driverOf, findVolume, missingVolume, readyVolumes, type VolumeContext } from "./context.ts";
import { foundElsewhere } from "./create.ts";
import { look } from "./drivers.ts";
import { listFilter } from "./filters.ts";
import { withForeign } from "./foreign.ts";
import { referencedNames, specOf } from "./records.ts";
import type { Volume, VolumeFilters, VolumeList } from "./store.ts";

/** Milliseconds after which the size of a volume counts as unknown. */
const usageDeadline = 30_000;

export async function getVolume(context: VolumeContext, name: string): Promise<Volume> {
  const volume = findVolume(context, name) ?? (await context.locks.run(name, () => foundElsewhere(context, name)));
  if (volume === undefined) throw missingVolume(name);
  const driver = driverOf(context, volume);
  if (driver.traits.foreign !== true) return volume;
  try {
    const { mountpoint = "", status } = await driver.describe(specOf(volume), look());
    return { ...volume, mountpoint, ...(status === undefined ? {} : { status }) };
  } catch (error) {
    if (isError(error, "not_found")) throw missingVolume(name);
    return volume;
  }
}

export async function listVolumes(context: VolumeContext, filters: VolumeFilters): Promise<VolumeList> {
  const { database, drivers } = context;
  const referenced = referencedNames(database);
  const passes = listFilter(filters, (name) => referenced.has(name));
  const needed = new Set(readyVolumes(context).map(({ driver }) => driver));
  const { names, warnings } = await drivers.listForeign(needed);
  const scopeOf = (name: string): Volume["scope"] => drivers.of(name).traits.scope;
  const all = withForeign(readyVolumes(context), { names, referenced, scopeOf });
  return { volumes: all.filter(passes), warnings: [...warnings, ...context.breakers.warnings()] };
}

/** Bytes in a volume, -1 when unknown. */
export async function volumeUsage(context: VolumeContext, name: string): Promise<number> {
  const volume = findVolume(context, name);
  // Known to a foreign driver only, or gone meanwhile.
  if (volume === undefined) return -1;
  const driver = context.drivers.known.get(volume.driver);
  const bytes = await driver?.usage(specOf(volume), AbortSignal.timeout(usageDeadline)).catch(() => undefined);
  return bytes ?? -1;
}
