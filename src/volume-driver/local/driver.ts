/**
 * The local driver: a volume is a directory of this machine below the data root, or whatever its options mount there,
 * as with dockerd.
 */
import { type DirectoryKind, type DirectoryOptions, openDirectoryDriver } from "../directory-driver.ts";
import type { VolumeDriver } from "../driver.ts";
import type { VolumeMount } from "../mounting.ts";
import { parseOptions } from "./validate.ts";

const local: DirectoryKind = {
  name: "local",
  traits: { scope: "local", prunable: true, ownsParent: true },
  folder: "volumes",
  mountOf: parseOptions,
  optionsFile,
};

/** Opens the driver over `<root>/volumes`. */
export function openLocalDriver(options: DirectoryOptions): Promise<VolumeDriver> {
  return openDirectoryDriver(local, options);
}

/** moby's `opts.json`. */
function optionsFile({ type, device, o }: VolumeMount): string {
  return JSON.stringify({ MountType: type, MountOpts: o, MountDevice: device, Quota: { Size: 0 } });
}
