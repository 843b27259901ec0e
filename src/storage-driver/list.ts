/**
 * Every storage driver, in the order in which they are tried when nobody chose one. Adding a driver adds its line here.
 * Only `select.ts` reads this list. The order is Docker's.
 */
import { aufs } from "./aufs/driver.ts";
import { btrfs } from "./btrfs/driver.ts";
import type { DriverFactory } from "./driver.ts";
import { fuseOverlayfs } from "./fuse-overlayfs/driver.ts";
import { overlay2 } from "./overlay2/driver.ts";
import { vfs } from "./vfs/driver.ts";
import { zfs } from "./zfs/driver.ts";

export const storageDrivers: readonly DriverFactory[] = [overlay2, fuseOverlayfs, btrfs, zfs, vfs];

/** Used when a person names them, and never otherwise. */
export const namedOnly: readonly DriverFactory[] = [aufs];

/** Works anywhere at a price, so data that it left says nothing of what a person wants. */
export const lastResort: DriverFactory = vfs;
