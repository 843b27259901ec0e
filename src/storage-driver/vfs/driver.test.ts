import { runConformance } from "../conformance.ts";
import { loopHome, scratchHome } from "../scratch-home.ts";
import { vfs } from "./driver.ts";

runConformance({ name: "vfs on the scratch filesystem", factory: vfs, makeHome: scratchHome });
runConformance({ name: "vfs on xfs", factory: vfs, makeHome: () => loopHome("xfs") });
