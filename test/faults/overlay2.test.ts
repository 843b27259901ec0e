/** Faults under the layer store on overlay2. */
import { faultSuite } from "./suite.ts";

const { overlay2 } = await import("../../src/storage-driver/overlay2/driver.ts");

faultSuite({ factory: overlay2, filesystem: "tmpfs", every: true });
