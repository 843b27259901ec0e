/**
 * Every volume driver, one line each: the only file that knows them all. Adding a driver is a folder and a line here.
 */
import type { Pool } from "../host/pool.ts";
import type { Remote } from "../host/remote.ts";
import { openBtrfsDriver } from "./btrfs/driver.ts";
import { openCephDriver } from "./ceph/driver.ts";
import { openCifsDriver } from "./cifs/driver.ts";
import { type DockerPluginsOptions, openDockerPlugins } from "./docker-plugin/source.ts";
import type { VolumeDriver, VolumeDriverSource } from "./driver.ts";
import { openEncryptedDriver } from "./encrypted/driver.ts";
import { openGlusterfsDriver } from "./glusterfs/driver.ts";
import { openLocalDriver } from "./local/driver.ts";
import { openNfsDriver } from "./nfs/driver.ts";
import { openS3Driver } from "./s3/driver.ts";
import { openSshfsDriver } from "./sshfs/driver.ts";
import { openTmpfsDriver } from "./tmpfs/driver.ts";
import { openZfsDriver } from "./zfs/driver.ts";

/** `root` is the engine's data root; a driver keeps what it needs below it. */
export type VolumeDriverOptions = {
  readonly root: string;
  readonly pool: Pool;
  /** For copies, so that nobody waits for their threads; `pool` when undefined. */
  readonly longPool?: Pool | undefined;
  /** The way to volumes that may hang; one of its own when undefined. */
  readonly remote?: Remote | undefined;
};

const drivers: readonly ((options: VolumeDriverOptions) => Promise<VolumeDriver>)[] = [
  openLocalDriver,
  openTmpfsDriver,
  openBtrfsDriver,
  openZfsDriver,
  openEncryptedDriver,
  openS3Driver,
  openSshfsDriver,
  openNfsDriver,
  openCifsDriver,
  openGlusterfsDriver,
  openCephDriver,
];

/** Opens every driver, the default (`local`) first. */
export async function openVolumeDrivers(options: VolumeDriverOptions): Promise<readonly VolumeDriver[]> {
  return Promise.all(drivers.map((open) => open(options)));
}

/** Drivers that are found by name: every Docker volume plugin of the machine. */
export function openForeignDrivers(options: DockerPluginsOptions): Promise<VolumeDriverSource> {
  return openDockerPlugins(options);
}
