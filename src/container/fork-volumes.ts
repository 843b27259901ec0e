/**
 * The mount points of a fork. An anonymous volume belongs to one container: two that write into the same one would harm
 * each other, and an empty one would lose what a person wants to have twice, so it is copied unless they say otherwise.
 */
import { EngineError, isError } from "../base/errors.ts";
import type { ForkVolumes, MountPoint } from "./container.ts";
import type { Context } from "./context.ts";
import type { ContainerRecord } from "./record.ts";

const tasks = new URL("./fork-task.ts", import.meta.url);

type Forking = { readonly id: string; readonly volumes: ForkVolumes; readonly undo: AsyncDisposableStack };

/** The source's mount points, with volumes of the fork's own where it has some. */
export async function forkMounts(
  context: Context,
  record: ContainerRecord,
  forking: Forking,
): Promise<readonly MountPoint[]> {
  const made = new Map<string, MountPoint>();
  const points: MountPoint[] = [];
  for (const point of record.mounts) {
    const { type, name, anonymous } = point;
    if (type !== "volume" || !anonymous || name === undefined || forking.volumes === "share") points.push(point);
    else {
      const own = made.get(name) ?? (await forkVolume(context, { record, point, name }, forking));
      made.set(name, own);
      points.push({ ...point, name: own.name, source: own.source });
    }
  }
  return points;
}

type Subject = { readonly record: ContainerRecord; readonly point: MountPoint; readonly name: string };

async function forkVolume(context: Context, { record, point, name }: Subject, forking: Forking): Promise<MountPoint> {
  const { volumes } = context;
  const old = await volumes.get(name);
  if (forking.volumes === "copy" && Object.keys(old.options).length > 0)
    throw new EngineError(
      "unsupported",
      `the anonymous volume ${name} has options of its driver, which may name the same storage again: fork with volumes=new or volumes=share`,
    );
  const made = await volumes.create({ driver: old.driver, options: old.options });
  forking.undo.defer(() => removeUnused(context, made.name));
  if (forking.volumes === "copy") await copyVolume(context, { from: name, to: made.name, use: `fork ${forking.id}` });
  else await fillFromImage(context, { ...point, name: made.name }, record);
  return { ...point, name: made.name, source: made.mountpoint };
}

type Copy = { readonly from: string; readonly to: string; readonly use: string };

async function copyVolume({ volumes, pool, remote }: Context, { from, to, use }: Copy): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const mount = async (name: string): Promise<string> => {
    const path = await volumes.mount(name, use);
    stack.defer(() => volumes.unmount(name, use));
    return path;
  };
  const argument = { source: await mount(from), target: await mount(to) };
  const far = volumes.isRemote(from) || volumes.isRemote(to);
  const where = far ? remote.pool(`volume ${from}`, `volume ${from}`) : pool;
  await volumes.asking(from, () => where.run<typeof argument, void>(tasks, "copyVolumeTask", argument));
}

/** As a create fills a new one. */
async function fillFromImage(context: Context, point: MountPoint, record: ContainerRecord): Promise<void> {
  const image = record.imageId === undefined ? undefined : context.images.find(record.imageId);
  const { name, copyUp, subpath, destination } = point;
  if (image?.top === undefined || name === undefined || !copyUp || subpath !== undefined) return;
  await using tree = await context.layers.mountLayer(image.top);
  await context.volumes.copyUp(name, { root: tree.path, path: destination });
}

async function removeUnused({ volumes }: Context, name: string): Promise<void> {
  try {
    await volumes.remove(name, { force: true });
  } catch (error) {
    if (!isError(error, "conflict")) throw error;
  }
}
