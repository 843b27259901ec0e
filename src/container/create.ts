/**
 * `create`: a plan, then the volumes, their first content, and one transaction for record, writable layer, layer hold and
 * volume references. Whatever fails takes back everything that was made before it.
 */
import { EngineError, isError, systemCode } from "../base/errors.ts";
import { AT_FDCWD, closeFd, O, openat2, RESOLVE } from "../host/sys.ts";
import type { MountDraft } from "../volume/parse-mounts.ts";
import type { MountPoint, NewContainer } from "./container.ts";
import { type Context, emit, layerOwner } from "./context.ts";
import { Entry } from "./entry.ts";
import { volumeNames } from "./mount-sources.ts";
import { parseContainerName } from "./names.ts";
import { onlyImageMissing, type Plan, planContainer } from "./plan.ts";
import { type ContainerRecord, insertStatement, mustSurvive, newState } from "./record.ts";

export async function createContainer(
  context: Context,
  request: NewContainer,
): Promise<{ readonly id: string; readonly warnings: readonly string[] }> {
  const asked = request.name ? parseContainerName(request.name) : undefined;
  const plan = await planContainer(context, request);
  const { id } = plan.record;
  await using undo = new AsyncDisposableStack();
  const name = takeName(context, asked, id);
  undo.defer(() => context.entries.names.release(name, id));
  const transient = request.transient === true ? { transient: true } : {};
  const record = {
    ...plan.record,
    ...transient,
    name,
    mounts: await onlyImageMissing(() => makeMounts(context, plan, undo)),
  };
  await makeWritable(context, plan, record);
  const entry = new Entry(record, newState);
  context.entries.add(entry);
  undo.move();
  emit(context, entry, "create");
  return { id, warnings: [] };
}

function takeName(context: Context, asked: string | undefined, id: string): string {
  if (asked === undefined) return context.entries.names.takeRandom(id);
  context.entries.names.take(asked, id);
  return asked;
}

async function makeWritable(context: Context, { image }: Plan, record: ContainerRecord): Promise<void> {
  const { layers, volumes } = context;
  const hold = image?.top === undefined ? [] : layers.holdStatements(layerOwner(record.id), image.top);
  await layers.createWritable(record.id, image?.top, {
    storageOptions: record.hostConfig.StorageOpt ?? {},
    durable: mustSurvive(record),
    statements: [insertStatement(record, newState), ...hold, ...volumes.holdStatements(record.id, volumeNames(record))],
  });
}

/** Volumes made and filled; mount points with their names and sources. */
async function makeMounts(context: Context, plan: Plan, undo: AsyncDisposableStack): Promise<readonly MountPoint[]> {
  const top = plan.image?.top;
  const fills = plan.drafts.some(({ point }) => point.type === "volume" && point.copyUp);
  if (!fills && plan.volumeTargets.size === 0) return makeVolumes(context, plan.drafts, undo);
  if (top === undefined) return makeVolumes(context, plan.drafts, undo);
  await using image = await context.layers.mountLayer(top);
  for (const target of plan.volumeTargets) refuseFile(image.path, target);
  const points = await makeVolumes(context, plan.drafts, undo);
  for (const { type, name, copyUp, destination, subpath } of points)
    if (type === "volume" && name !== undefined && copyUp && subpath === undefined)
      await context.volumes.copyUp(name, { root: image.path, path: destination });
  return points;
}

/** Throws invalid_argument when the image has at `target` what is no directory; looked up inside the image. */
function refuseFile(root: string, target: string): void {
  const directory = openat2(AT_FDCWD, root, { flags: O.PATH | O.DIRECTORY });
  try {
    const resolve = RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS;
    closeFd(openat2(directory, target.replace(/^\/+/, ""), { flags: O.PATH | O.DIRECTORY, resolve }));
  } catch (cause) {
    if (systemCode(cause) === "ENOENT") return;
    if (systemCode(cause) !== "ENOTDIR") throw cause;
    throw new EngineError("invalid_argument", `cannot mount volume over existing file, file exists ${target}`, {
      cause,
    });
  } finally {
    closeFd(directory);
  }
}

async function makeVolumes(
  context: Context,
  drafts: readonly MountDraft[],
  undo: AsyncDisposableStack,
): Promise<readonly MountPoint[]> {
  const making = drafts.map((draft) =>
    draft.point.type === "volume" ? makeVolume(context, draft, undo) : draft.point,
  );
  const made = await Promise.allSettled(making);
  return made.map((result) => {
    if (result.status === "rejected") throw result.reason;
    return result.value;
  });
}

async function makeVolume(context: Context, draft: MountDraft, undo: AsyncDisposableStack): Promise<MountPoint> {
  const { point, volume: wanted } = draft;
  const volume = await context.volumes.create({ name: point.name, driver: point.driver, ...wanted });
  if (volume.created) undo.defer(() => removeUnused(context, volume.name));
  return { ...point, name: volume.name, source: volume.mountpoint, driver: volume.driver };
}

/** A volume that another container has come to use meanwhile stays. */
async function removeUnused(context: Context, name: string): Promise<void> {
  try {
    await context.volumes.remove(name, { force: true });
  } catch (error) {
    if (!isError(error, "conflict")) throw error;
  }
}
