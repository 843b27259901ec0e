/** Faults under the layer store on vfs. */
import { faultSuite } from "./suite.ts";

const { vfs } = await import("../../src/storage-driver/vfs/driver.ts");

faultSuite({ factory: vfs, filesystem: "tmpfs", every: true });
