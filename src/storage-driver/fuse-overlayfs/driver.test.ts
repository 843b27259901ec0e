import { runConformance } from "../conformance.ts";
import { loopHome, scratchHome } from "../scratch-home.ts";
import { fuseOverlayfs } from "./driver.ts";

const knownLimits = {
  "a directory's setgid bit survives what happens in it":
    "fuse-overlayfs makes the copied directory by mkdir(2), which drops the bit",
};
const suite = { factory: fuseOverlayfs, knownLimits };

runConformance({ ...suite, name: "fuse-overlayfs on the scratch filesystem", makeHome: scratchHome });
runConformance({ ...suite, name: "fuse-overlayfs on xfs", makeHome: () => loopHome("xfs") });
