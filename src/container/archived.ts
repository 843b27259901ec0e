/**
 * The part of the service that moves files in and out of containers. A removal does not wait for it, as a client may take its
 * time: what fails because the container goes meanwhile fails as it does for a container that is gone.
 */
import { readArchive, statPath, writeArchive } from "./archive.ts";
import type { ContainerService } from "./container.ts";
import type { Context } from "./context.ts";
import { exportContainer } from "./export.ts";

export function archived(context: Context) {
  return {
    export: (name, signal) => exportContainer(context, context.entries.get(name), signal),
    statPath: (name, path) => orGone(context, name, () => statPath(context, name, path)),
    readArchive: (name, path, signal) => orGone(context, name, () => readArchive(context, name, { path, signal })),
    writeArchive: (name, path, tar, options) =>
      orGone(context, name, () => writeArchive(context, name, { path, tar, ...options })),
  } satisfies Partial<ContainerService>;
}

async function orGone<T>(context: Context, nameOrId: string, work: () => Promise<T>): Promise<T> {
  const entry = context.entries.get(nameOrId);
  try {
    return await work();
  } catch (error) {
    entry.refuseGone();
    throw error;
  }
}
