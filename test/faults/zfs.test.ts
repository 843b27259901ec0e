/** Faults under the layer store on zfs, whose commands fail too: in the long form only (`npm run test:faults`), as each takes its time. */
import { faultSuite } from "./suite.ts";

const { zfs } = await import("../../src/storage-driver/zfs/driver.ts");
const { cannotMakePool } = await import("../../src/storage-driver/zfs/zfs-pool.fixture.ts");

if (cannotMakePool() === false) faultSuite({ factory: zfs, filesystem: "zfs", every: false, slow: true });
