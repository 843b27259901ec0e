/**
 * Which files of a container may hang: those on volumes and binds that a machine or a program serves. The daemon and its
 * worker threads never look at them; children with a deadline do.
 */
import { mkdir, stat } from "node:fs/promises";
import { systemCode } from "../base/errors.ts";
import type { Pool } from "../host/pool.ts";
import { remoteMountOf } from "../host/remote-path.ts";
import type { MountPoint } from "./container.ts";
import type { Context } from "./context.ts";
import type { ContainerRecord } from "./record.ts";

export function isRemotePoint({ volumes }: Context, { type, name, source }: MountPoint): boolean {
  if (type === "volume") return name !== undefined && volumes.isRemote(name);
  return type === "bind" && remoteMountOf(source) !== undefined;
}

/** Where work on a container's files runs when some of them may hang; undefined when none may. */
export function remotePoolOf(context: Context, record: ContainerRecord): Pool | undefined {
  if (!record.mounts.some((point) => isRemotePoint(context, point))) return undefined;
  return context.remote.pool(`container ${record.id}`, `a volume of container ${record.name}`);
}

/** Runs work on the file at `path` of a container, through the breaker of the volume that it is on. */
export async function askingFor<T>(
  { volumes }: Context,
  { mounts }: ContainerRecord,
  { path, work }: { readonly path: string; readonly work: () => Promise<T> },
): Promise<T> {
  const point = mountAt(mounts, path);
  return point?.type === "volume" && point.name !== undefined ? volumes.asking(point.name, work) : work();
}

/** The mount point that a path without links is on. */
export function mountAt(mounts: readonly MountPoint[], path: string): MountPoint | undefined {
  return mounts
    .filter(({ destination: at }) => path === at || path.startsWith(`${at}/`))
    .sort((a, b) => a.destination.length - b.destination.length)
    .at(-1);
}

/** Whether a path of the host is there. Throws deadline_exceeded when whoever serves it does not answer. */
export async function isOnHost({ remote }: Context, path: string): Promise<boolean> {
  try {
    if (remoteMountOf(path) === undefined) await stat(path);
    else await remote.calls.look(path, remote.patience(`the path ${path}`));
    return true;
  } catch (error) {
    if (systemCode(error) === "ENOENT") return false;
    throw error;
  }
}

/** With its parents, as Docker makes the missing source of a bind. */
export async function makeOnHost({ remote }: Context, path: string): Promise<void> {
  if (remoteMountOf(path) === undefined) await mkdir(path, { recursive: true, mode: 0o755 });
  else await remote.calls.makeDirectory(path, remote.patience(`the path ${path}`));
}
