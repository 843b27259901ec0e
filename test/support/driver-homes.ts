/** The storage drivers that an engine of a test can run on, each with a filesystem of its own for the data root where it needs one. */
import { loopHome } from "../../src/storage-driver/scratch-home.ts";
import { cannotMakePool, zfsHome } from "../../src/storage-driver/zfs/zfs-pool.fixture.ts";

export type DriverHome = {
  readonly driver: string;
  /** A filesystem of its own for the data root; any will do when undefined. */
  readonly home?: () => Promise<AsyncDisposable & { readonly path: string }>;
  /** Why it cannot be run here. */
  readonly skip: string | false;
};

export const driverHomes: readonly DriverHome[] = [
  { driver: "overlay2", skip: false },
  { driver: "fuse-overlayfs", skip: false },
  { driver: "btrfs", home: () => loopHome("btrfs"), skip: false },
  { driver: "zfs", home: zfsHome, skip: cannotMakePool() },
  { driver: "vfs", skip: false },
];
