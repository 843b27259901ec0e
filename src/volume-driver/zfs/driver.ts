/**
 * The zfs driver: a volume is a dataset, limited in size by its refquota; a snapshot and a clone of it cost one command
 * whatever it holds. Datasets are made below the one that the option `dataset` names, else below that of the data root.
 */

import { type DirectoryOptions, openDirectoryDriver } from "../directory-driver.ts";
import type { DirectoryKind } from "../directory-kind.ts";
import type { VolumeDriver } from "../driver.ts";
import { DatasetContent } from "./content.ts";
import { parseOptions } from "./options.ts";

const advice = "install OpenZFS (zfsutils-linux) or the package zfs-fuse";

const zfs: DirectoryKind = {
  name: "zfs",
  traits: { scope: "local", prunable: true, ownsParent: false, sized: true },
  folder: "volume-drivers/zfs",
  check: (options) => void parseOptions(options),
  fixedOptions: ["dataset"],
  content: () => new DatasetContent(),
  requirements: [
    { kind: "program", name: "zfs", advice },
    { kind: "program", name: "zpool", advice },
  ],
};

/** Opens the driver over `<root>/volume-drivers/zfs`. */
export function openZfsDriver(options: DirectoryOptions): Promise<VolumeDriver> {
  return openDirectoryDriver(zfs, options);
}
