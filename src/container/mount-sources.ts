/**
 * The mounts of a container as the runtime wants them: volumes mounted by their drivers, subpaths pinned, bind sources
 * there, tmpfs options split. What was mounted on the host for this is given back by the run's end.
 */
import { rmdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { EngineError, systemCode } from "../base/errors.ts";
import { type MountEntry, mountTable } from "../host/mount.ts";
import type { SpecMount } from "../runtime/spec-mounts.ts";
import { cleanPath } from "../volume/clean-path.ts";
import { missingSource } from "../volume/parse-mounts.ts";
import type { MountPoint } from "./container.ts";
import type { Context } from "./context.ts";
import type { ContainerRecord } from "./record.ts";
import { isOnHost, makeOnHost } from "./remote.ts";
import { bindSubpathTask, releaseSubpath, subpathTasks } from "./subpath.ts";

/** Names of the volumes of a container, each once. */
export function volumeNames(record: Pick<ContainerRecord, "mounts">): readonly string[] {
  return [
    ...new Set(record.mounts.flatMap(({ type, name }) => (type === "volume" && name !== undefined ? [name] : []))),
  ];
}

/** Mounts every volume of the container; `undo` gets what must be given back should the start fail. */
export async function mountVolumes(
  context: Context,
  record: ContainerRecord,
  undo: AsyncDisposableStack,
): Promise<ReadonlyMap<string, string>> {
  const paths = new Map<string, string>();
  const mounting = volumeNames(record).map(async (name) => {
    const path = await context.volumes.mount(name, record.id);
    undo.defer(() => context.volumes.unmount(name, record.id));
    paths.set(name, path);
    const destinations = record.mounts.filter((mount) => mount.name === name);
    for (const mount of destinations) tellMount(context, record, mount);
  });
  const failed = (await Promise.allSettled(mounting)).find((result) => result.status === "rejected");
  if (failed !== undefined) throw failed.reason;
  return paths;
}

function tellMount(context: Context, record: ContainerRecord, mount: MountPoint): void {
  context.events.emit("volume", "mount", mount.name ?? "", {
    container: record.id,
    destination: mount.destination,
    driver: mount.driver ?? "local",
    propagation: mount.propagation,
    "read/write": String(mount.readWrite),
  });
}

/** Ends this container's use of its volumes. Every one is tried; the first failure is thrown. */
export async function unmountVolumes(context: Context, record: ContainerRecord): Promise<void> {
  const unmounting = volumeNames(record).map(async (name) => {
    await context.volumes.unmount(name, record.id);
    const driver = record.mounts.find((mount) => mount.name === name)?.driver ?? "local";
    context.events.emit("volume", "unmount", name, { container: record.id, driver });
  });
  const failed = (await Promise.allSettled(unmounting)).find((result) => result.status === "rejected");
  if (failed !== undefined) throw failed.reason;
}

/** Pinned subpaths live in `pins` until the runtime has bound them. */
export async function specMountsOf(
  context: Context,
  record: ContainerRecord,
  sources: { readonly volumes: ReadonlyMap<string, string>; readonly pins: AsyncDisposableStack },
): Promise<readonly SpecMount[]> {
  const mounts: SpecMount[] = [];
  for (const [index, point] of record.mounts.entries()) {
    if (point.type === "tmpfs") mounts.push(tmpfsMount(point));
    else if (point.type === "bind") mounts.push(bindMount(point, await bindSource(context, record, point)));
    else mounts.push(bindMount(point, await volumeSource(context, { record, point, index, ...sources })));
  }
  return [...configMounts(record), ...mounts];
}

type VolumeUse = {
  readonly record: ContainerRecord;
  readonly point: MountPoint;
  readonly index: number;
  readonly volumes: ReadonlyMap<string, string>;
  readonly pins: AsyncDisposableStack;
};

async function volumeSource(context: Context, use: VolumeUse): Promise<string> {
  const { name = "", subpath } = use.point;
  const path = use.volumes.get(name);
  if (path === undefined) throw new EngineError("internal", `volume ${name} is not mounted`);
  if (subpath === undefined) return path;
  const place = join(context.execRoot, "subpaths", use.record.id, String(use.index));
  use.pins.defer(() => removeEmpty(dirname(place)));
  use.pins.defer(() => releaseSubpath(place, context.remote));
  const argument = { volume: path, subpath, place };
  if (!context.volumes.isRemote(name)) bindSubpathTask(argument);
  else {
    const pool = context.remote.pool(`volume ${name}`, `volume ${name}`);
    await context.volumes.asking(name, () => pool.run<object, void>(subpathTasks, "bindSubpathTask", argument));
  }
  return place;
}

/** Another pin of the same container may still be there: its own end takes the directory. */
async function removeEmpty(directory: string): Promise<void> {
  await rmdir(directory).catch((error: unknown) => {
    if (systemCode(error) !== "ENOTEMPTY" && systemCode(error) !== "ENOENT") throw error;
  });
}

function tmpfsMount(point: MountPoint): SpecMount {
  const options = (point.tmpfsOptions ?? "").split(",").filter((option) => option !== "");
  return { destination: point.destination, type: "tmpfs", source: "tmpfs", options };
}

function bindMount(point: MountPoint, source: string): SpecMount {
  const propagation = point.propagation || "rprivate";
  if (point.type === "bind" && /shared|slave/.test(propagation)) requireShared(source, propagation);
  const recursive = point.nonRecursive ? "bind" : "rbind";
  const wholly = point.readOnlyMode !== "non-recursive" && !point.nonRecursive;
  const access = point.readWrite ? [] : [wholly ? "rro" : "ro"];
  return { destination: point.destination, type: "bind", source, options: [recursive, propagation, ...access] };
}

/** Docker makes the missing source of a `-v`, never that of a `--mount`. */
function makesSource(record: ContainerRecord, point: MountPoint): boolean {
  const request = (record.hostConfig.Mounts ?? []).find(
    (mount) => mount.Type === "bind" && cleanPath(mount.Target) === point.destination,
  );
  return request === undefined || request.BindOptions?.CreateMountpoint === true;
}

async function bindSource(context: Context, record: ContainerRecord, point: MountPoint): Promise<string> {
  if (await isOnHost(context, point.source)) return point.source;
  if (!makesSource(record, point)) throw missingSource(point);
  await makeOnHost(context, point.source);
  return point.source;
}

function holderOf(path: string, table: readonly MountEntry[]): MountEntry | undefined {
  const holds = ({ target }: MountEntry): boolean => target === "/" || path === target || path.startsWith(`${target}/`);
  return table
    .filter(holds)
    .sort((a, b) => a.target.length - b.target.length || a.id - b.id)
    .at(-1);
}

/** Docker's refusal: nothing can propagate from a mount that is private on the host. */
function requireShared(source: string, propagation: string): void {
  const holder = holderOf(source, mountTable());
  const state = String(holder?.propagation ?? "");
  const shared = state.includes("shared");
  if (shared || (propagation.includes("slave") && (state.includes("master") || state.includes("slave")))) return;
  const needed = propagation.includes("slave") ? "shared or slave" : "shared";
  throw new EngineError(
    "invalid_argument",
    `path ${source} is mounted on ${holder?.target ?? "/"} but it is not a ${needed} mount`,
  );
}

/** The engine's own files, unless the user mounts something there. */
function configMounts(record: ContainerRecord): readonly SpecMount[] {
  const taken = new Set(record.mounts.map((mount) => mount.destination));
  const access = record.hostConfig.ReadonlyRootfs === true ? ["ro"] : [];
  const files: readonly (readonly [string, string])[] = [
    ["/etc/hostname", record.hostnamePath],
    ["/etc/hosts", record.hostsPath],
    ["/etc/resolv.conf", record.resolvConfPath],
  ];
  return files
    .filter(([destination]) => !taken.has(destination))
    .map(([destination, source]) => ({ destination, type: "bind", source, options: ["bind", "rprivate", ...access] }));
}
