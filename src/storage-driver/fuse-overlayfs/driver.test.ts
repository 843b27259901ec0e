import { runConformance } from "../conformance.ts";
import { loopHome, scratchHome } from "../scratch-home.ts";
import { fuseOverlayfs } from "./driver.ts";

const suite = { factory: fuseOverlayfs };

runConformance({ ...suite, name: "fuse-overlayfs on the scratch filesystem", makeHome: scratchHome });
runConformance({ ...suite, name: "fuse-overlayfs on xfs", makeHome: () => loopHome("xfs") });
