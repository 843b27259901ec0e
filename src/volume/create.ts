/**
 * `create`: row `creating`, the driver's volume, its first content, row `ready`. A name that is taken means the volume that
 * has it (Docker's rule), be it on record or known to a foreign driver only.
 */
import { randomBytes } from "node:crypto";
import { EngineError, errorCode, errorMessage } from "../base/errors.ts";
import type { VolumeDescription, VolumeDriver, VolumeSpec } from "../volume-driver/driver.ts";
import { driverOf, findVolume, refuseReferenced, type VolumeContext } from "./context.ts";
import { described, fillNew, foreignVolume, isLost } from "./foreign.ts";
import { finishRemoval } from "./reconcile.ts";
import { deleteStatement, findRecord, insertStatement, readyStatement, specOf } from "./records.ts";
import type { NewVolume, Volume } from "./store.ts";

const anonymousLabel = "com.docker.volume.anonymous";
const defaultDriver = "local";

export type CreatedVolume = Volume & { readonly created: boolean };

/** How a volume that must not be there yet comes to be. */
export type Making = {
  /** Instead of the driver's `create`. */
  readonly make?: (driver: VolumeDriver, spec: VolumeSpec) => Promise<void>;
  readonly fill?: NewVolume["fill"];
};

export function createVolume(context: VolumeContext, request: NewVolume): Promise<CreatedVolume> {
  return create(context, request, async (volume) => {
    const existing = await existingVolume(context, volume, request);
    if (existing !== undefined) return { ...sameDriver(existing, request.driver), created: false };
    return make(context, volume, { fill: request.fill });
  });
}

/** As {@link createVolume}, but a name that is taken is a conflict. */
export function createNewVolume(context: VolumeContext, request: NewVolume, making: Making): Promise<CreatedVolume> {
  const taken = (name: string): EngineError => new EngineError("conflict", `a volume ${name} exists already`);
  return create(context, request, async (volume) => {
    const existing = await existingVolume(context, volume, { name: volume.name });
    if (existing !== undefined) throw taken(volume.name);
    const made = await make(context, volume, making);
    if (!made.created) throw taken(volume.name);
    return made;
  });
}

function create(
  context: VolumeContext,
  request: NewVolume,
  work: (volume: Volume) => Promise<CreatedVolume>,
): Promise<CreatedVolume> {
  const volume = newVolume(request);
  return context.locks.run(volume.name, async () => {
    try {
      return await work(volume);
    } catch (cause) {
      throw new EngineError(errorCode(cause), `create ${volume.name}: ${errorMessage(cause)}`, { cause });
    }
  });
}

/** A volume that a foreign driver has and nobody has a record of: it gets one. The caller holds the name's lock. */
export async function foundElsewhere(context: VolumeContext, name: string): Promise<Volume | undefined> {
  await finishLeft(context, name);
  const found = await context.drivers.holding(name);
  if (found === undefined) return undefined;
  return record(context, foreignVolume(name, found.driver.name, found.driver.traits.scope), found.description);
}

/** The volume that a create means: on record, unless its foreign driver has lost it; or one that a foreign driver has. */
async function existingVolume(context: VolumeContext, wanted: Volume, request: NewVolume): Promise<Volume | undefined> {
  const existing = findVolume(context, wanted.name);
  if (existing === undefined) {
    if (request.driver || !request.name) return undefined;
    return foundElsewhere(context, wanted.name);
  }
  const driver = driverOf(context, existing);
  if (driver.traits.foreign !== true || !(await isLost(driver, existing))) return existing;
  refuseReferenced(context, existing.name);
  await context.database.transact([deleteStatement(existing.name)]);
  return undefined;
}

async function record(
  { database }: VolumeContext,
  volume: Volume,
  { mountpoint = "", createdAt }: VolumeDescription,
): Promise<Volume> {
  const known = { ...volume, mountpoint, createdAt: createdAt ?? (volume.createdAt || new Date().toISOString()) };
  await database.transact([insertStatement(known, "ready")]);
  return known;
}

/** What was half-made or half-removed while its driver was away. */
async function finishLeft({ database, drivers }: VolumeContext, name: string): Promise<void> {
  const left = findRecord(database, name);
  if (left === undefined || left.state === "ready") return;
  await finishRemoval(database, drivers.of(left.driver), left);
}

async function make(context: VolumeContext, wanted: Volume, making: Making): Promise<CreatedVolume> {
  const { database, events } = context;
  const driver = await context.drivers.open(wanted.driver);
  const spec = specOf(wanted);
  const { scope, foreign } = driver.traits;
  driver.validate(spec);
  await finishLeft(context, wanted.name);
  const there = foreign === true ? await described(driver, spec) : undefined;
  if (there !== undefined) return { ...(await record(context, { ...wanted, scope }, there)), created: false };
  await database.transact([insertStatement({ ...wanted, scope }, "creating")]);
  let made = foreign !== true;
  let mountpoint: string;
  try {
    await (making.make?.(driver, spec) ?? driver.create(spec));
    made = true;
    if (making.fill !== undefined) await fillNew(context, wanted, making.fill);
    mountpoint = (await driver.describe(spec)).mountpoint ?? "";
    await database.transact([readyStatement(wanted.name, mountpoint)]);
  } catch (error) {
    if (made) await driver.remove(spec);
    await database.transact([deleteStatement(wanted.name)]);
    throw error;
  }
  events.emit("volume", "create", wanted.name, { driver: wanted.driver });
  return { ...wanted, scope, mountpoint, created: true };
}

export function newVolume(request: NewVolume): Volume {
  const anonymous = request.name === undefined || request.name === "";
  const labels = request.labels ?? {};
  const createdAt = request.createdAt ?? new Date().toISOString().replace(/\.\d+Z$/, "Z");
  return {
    name: anonymous ? randomBytes(32).toString("hex") : (request.name ?? ""),
    driver: request.driver === undefined || request.driver === "" ? defaultDriver : request.driver,
    options: request.options ?? {},
    labels: anonymous ? { ...labels, [anonymousLabel]: "" } : labels,
    // Docker knows a volume without a name by its label.
    anonymous: anonymous || anonymousLabel in labels,
    createdAt,
    mountpoint: "",
    scope: "local",
  };
}

function sameDriver(existing: Volume, driver: string | undefined): Volume {
  if (driver === undefined || driver === "" || driver === existing.driver) return existing;
  throw new EngineError(
    "conflict",
    `driver '${existing.driver}' already has volume '${existing.name}': volume name must be unique`,
  );
}
