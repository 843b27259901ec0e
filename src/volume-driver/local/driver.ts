/**
 * The local driver: a volume is a directory of this machine below the data root, or whatever its options mount there,
 * as with dockerd. A directory may be limited in size.
 */
import { type DirectoryOptions, openDirectoryDriver } from "../directory-driver.ts";
import type { DirectoryKind } from "../directory-kind.ts";
import type { VolumeDriver } from "../driver.ts";
import { FolderContent } from "../folder-content.ts";
import { formatOptionsFile, parseOptionsFile } from "./options-file.ts";
import { parseOptions, sizeOf } from "./validate.ts";

const local: DirectoryKind = {
  name: "local",
  traits: { scope: "local", prunable: true, ownsParent: true, sized: true },
  folder: "volumes",
  mountOf: parseOptions,
  content: (pools) => new FolderContent({ ...pools, sizeOf }),
  optionsFile: formatOptionsFile,
  readOptionsFile: parseOptionsFile,
};

/** Opens the driver over `<root>/volumes`. */
export function openLocalDriver(options: DirectoryOptions): Promise<VolumeDriver> {
  return openDirectoryDriver(local, options);
}
