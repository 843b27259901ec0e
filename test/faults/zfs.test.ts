/** Faults under the layer store on zfs, whose commands fail too: few in the short form, as each takes its time (all: `npm run test:faults`). */
import { faultSuite } from "./suite.ts";

const { zfs } = await import("../../src/storage-driver/zfs/driver.ts");
const { cannotMakePool } = await import("../../src/storage-driver/zfs/zfs-pool.fixture.ts");

if (cannotMakePool() === false) faultSuite({ factory: zfs, filesystem: "zfs", every: false, slow: true });
