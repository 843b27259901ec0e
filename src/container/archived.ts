/** The part of the service that moves files in and out of containers. */

import { readArchive, statPath, writeArchive } from "./archive.ts";
import type { ContainerService } from "./container.ts";
import type { Context } from "./context.ts";
import { exportContainer } from "./export.ts";

export function archived(context: Context) {
  return {
    export: (name, signal) => exportContainer(context, context.entries.get(name), signal),
    statPath: (name, path) => statPath(context, name, path),
    readArchive: (name, path, signal) => readArchive(context, name, { path, signal }),
    writeArchive: (name, path, tar, options) => writeArchive(context, name, { path, tar, ...options }),
  } satisfies Partial<ContainerService>;
}
