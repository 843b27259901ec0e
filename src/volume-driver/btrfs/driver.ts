/**
 * The btrfs driver: a volume is a subvolume, limited in size by its quota group, and a snapshot or a clone of it costs one
 * call whatever it holds. Subvolumes are made below the driver's folder, where the data root is on btrfs, or below the
 * directory that the option `device` names.
 */
import { stat } from "node:fs/promises";
import { isAbsolute, join } from "node:path";
import { EngineError, errorMessage, systemCode } from "../../base/errors.ts";
import { parseSize } from "../../base/size.ts";
import { filesystemName } from "../../host/filesystem.ts";
import { type DirectoryOptions, openDirectoryDriver } from "../directory-driver.ts";
import type { DirectoryKind } from "../directory-kind.ts";
import type { VolumeDriver, VolumeSpec } from "../driver.ts";
import { FolderContent } from "../folder-content.ts";

const btrfs: DirectoryKind = {
  name: "btrfs",
  traits: { scope: "local", prunable: true, ownsParent: false, sized: true },
  folder: "volume-drivers/btrfs",
  check: (options) => void parseOptions(options),
  fixedOptions: ["device"],
  content: (pools) =>
    new FolderContent({ ...pools, subvolumes: true, sizeOf: (options) => parseOptions(options).size, placeOf }),
  requirements: [{ kind: "filesystem", name: "btrfs", advice: "load the module btrfs" }],
};

/** Opens the driver over `<root>/volume-drivers/btrfs`. */
export function openBtrfsDriver(options: DirectoryOptions): Promise<VolumeDriver> {
  return openDirectoryDriver(btrfs, options);
}

export type BtrfsOptions = { readonly device: string | undefined; readonly size: number | undefined };

/** Throws invalid_argument that names the option. */
export function parseOptions(options: VolumeSpec["options"]): BtrfsOptions {
  const { device, size, ...others } = options;
  const [unknown] = Object.keys(others);
  if (unknown !== undefined)
    throw new EngineError("invalid_argument", `invalid option: ${JSON.stringify(unknown)}; btrfs has device, size`);
  if (device !== undefined && (!isAbsolute(device) || device.includes("\0")))
    throw new EngineError(
      "invalid_argument",
      `the option device names an absolute path, not ${JSON.stringify(device)}`,
    );
  const bytes = size === undefined ? 0 : parseSize(size);
  return { device, size: bytes === 0 ? undefined : bytes };
}

/** Where homes are made, when elsewhere. Throws unsupported where that, or the folder, is not on btrfs. */
async function placeOf(folder: string, options: VolumeSpec["options"]): Promise<string | undefined> {
  const { device } = parseOptions(options);
  const place = device ?? folder;
  const filesystem = await filesystemAt(place);
  if (filesystem === "btrfs") return device;
  const words =
    device === undefined
      ? `the data root (${join(folder, "../../..")}) is on ${filesystem}; the btrfs driver needs it on btrfs, or a directory on btrfs named by the option device`
      : `${device}, which the option device names, is on ${filesystem}, not on btrfs`;
  throw new EngineError("unsupported", words);
}

async function filesystemAt(place: string): Promise<string> {
  try {
    if ((await stat(place)).isDirectory()) return await filesystemName(place);
  } catch (error) {
    const words = `the option device names ${place}: ${errorMessage(error)}`;
    throw new EngineError(systemCode(error) === "ENOENT" ? "invalid_argument" : "internal", words, { cause: error });
  }
  throw new EngineError("invalid_argument", `the option device names ${place}, which is no directory`);
}
