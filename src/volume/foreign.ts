/**
 * What the store asks of one driver, and what it shows of volumes that foreign drivers keep: a record of ours and what
 * the driver says may differ, and the driver may not say anything.
 */
import { randomBytes } from "node:crypto";
import { isError } from "../base/errors.ts";
import type { VolumeDescription, VolumeDriver, VolumeSpec } from "../volume-driver/driver.ts";
import { driverOf, poolFor, type VolumeContext } from "./context.ts";
import { look } from "./drivers.ts";
import { specOf } from "./records.ts";
import type { Volume } from "./store.ts";

const syncs = new URL("../host/durable.ts", import.meta.url);

/** While the row says `creating`, so that a crash takes away what was filled half. */
export async function fillNew(
  context: VolumeContext,
  volume: Volume,
  fill: (path: string) => Promise<void>,
): Promise<void> {
  const driver = driverOf(context, volume);
  const spec = specOf(volume);
  const use = `fill-${randomBytes(16).toString("hex")}`;
  const path = await driver.mount(spec, use);
  try {
    await fill(path);
    await poolFor(context, volume).run<string, void>(syncs, "syncFilesystem", path);
  } finally {
    await driver.unmount(spec, use);
  }
}

/** The driver was reached, and has no such volume. */
export async function isLost(driver: VolumeDriver, volume: Volume): Promise<boolean> {
  return driver.describe(specOf(volume), look()).then(
    () => false,
    (why: unknown) => isError(why, "not_found"),
  );
}

/** What a foreign driver has already. As with Docker its refusal to say so means that it has not; only silence is a failure. */
export async function described(driver: VolumeDriver, spec: VolumeSpec): Promise<VolumeDescription | undefined> {
  return driver.describe(spec).catch((error: unknown) => {
    if (isError(error, "not_found") || isError(error, "internal")) return undefined;
    throw error;
  });
}

/** A volume that we have no record of. */
export const foreignVolume = (name: string, driver: string, scope: Volume["scope"]): Volume => ({
  name,
  driver,
  options: {},
  labels: {},
  anonymous: false,
  createdAt: "",
  mountpoint: "",
  scope,
});

export type ForeignView = {
  /** Driver -> what it has, of those that answered. */
  readonly names: ReadonlyMap<string, readonly string[]>;
  readonly referenced: ReadonlySet<string>;
  readonly scopeOf: (driver: string) => Volume["scope"];
};

/**
 * Volumes on record and those that foreign drivers have besides, by name. What its driver no longer has is left out unless
 * a container needs it; of two drivers with one name the first wins.
 */
export function withForeign(recorded: readonly Volume[], { names, referenced, scopeOf }: ForeignView): Volume[] {
  const lost = ({ name, driver }: Volume): boolean =>
    names.get(driver)?.includes(name) === false && !referenced.has(name);
  const all = new Map(recorded.map((volume) => [volume.name, volume]));
  for (const driver of [...names.keys()].sort())
    for (const name of names.get(driver) ?? [])
      if (!all.has(name)) all.set(name, foreignVolume(name, driver, scopeOf(driver)));
  return [...all.values()].filter((volume) => !lost(volume)).sort((a, b) => (a.name < b.name ? -1 : 1));
}
