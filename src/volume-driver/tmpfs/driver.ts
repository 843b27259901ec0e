/**
 * The tmpfs driver: a volume in memory. Unlike a tmpfs mount of one container it has a name, is shared, and keeps its
 * data when the last container stops and when the engine restarts; it ends with the volume or with the machine.
 */
import { EngineError } from "../../base/errors.ts";
import { parseSize } from "../../base/size.ts";
import { type DirectoryOptions, openDirectoryDriver } from "../directory-driver.ts";
import type { DirectoryKind } from "../directory-kind.ts";
import type { VolumeDriver, VolumeSpec } from "../driver.ts";
import type { VolumeMount } from "../mounting.ts";

const tmpfs: DirectoryKind = {
  name: "tmpfs",
  traits: { scope: "local", prunable: true, ownsParent: true, sized: true },
  folder: "volume-drivers/tmpfs",
  mountOf: parseOptions,
  // What the kernel gives a tmpfs of no size.
  remountOf: ({ size = "50%" }) => parseOptions({ size }),
  fixedOptions: ["mode", "uid", "gid", "nr_inodes"],
  staysMounted: true,
  measured: true,
};

/** Opens the driver over `<root>/volume-drivers/tmpfs`. */
export function openTmpfsDriver(options: DirectoryOptions): Promise<VolumeDriver> {
  return openDirectoryDriver(tmpfs, options);
}

type Read = (value: string) => string | undefined;

const number: Read = (value) => (/^\d{1,10}$/.test(value) ? value : undefined);

/** Option -> what mount(8) is told; undefined for a value that is none. */
const readers: Readonly<Record<string, Read>> = {
  size: (value) => (/^\d{1,2}%$|^100%$/.test(value) ? value : `${parseSize(value)}`),
  mode: (value) => (/^[0-7]{3,4}$/.test(value) ? value : undefined),
  uid: number,
  gid: number,
  nr_inodes: number,
};

/** Throws invalid_argument that names the option. Devices and programs have no place in memory that is shared. */
export function parseOptions(options: VolumeSpec["options"]): VolumeMount {
  const words = Object.entries(options).map(([name, value]) => {
    const read = Object.hasOwn(readers, name) ? readers[name] : undefined;
    const known = Object.keys(readers).join(", ");
    if (read === undefined)
      throw new EngineError("invalid_argument", `invalid option: ${JSON.stringify(name)}; tmpfs has ${known}`);
    const word = read(value);
    if (word !== undefined) return `${name}=${word}`;
    throw new EngineError("invalid_argument", `invalid value of the option ${name}: ${JSON.stringify(value)}`);
  });
  return { type: "tmpfs", device: "tmpfs", o: ["nosuid", "nodev", ...words].join(",") };
}
