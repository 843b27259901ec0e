/** Faults under the layer store on drivers that need a filesystem or a program of their own. */
import { faultSuite } from "./suite.ts";

const { btrfs } = await import("../../src/storage-driver/btrfs/driver.ts");
const { fuseOverlayfs } = await import("../../src/storage-driver/fuse-overlayfs/driver.ts");

faultSuite({ factory: btrfs, filesystem: "btrfs", every: false });
faultSuite({ factory: fuseOverlayfs, filesystem: "ext4", every: false });
