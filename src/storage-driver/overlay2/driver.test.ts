import { runConformance } from "../conformance.ts";
import { loopHome, scratchHome } from "../scratch-home.ts";
import { overlay2 } from "./driver.ts";

runConformance({ name: "overlay2 on the scratch filesystem", factory: overlay2, makeHome: scratchHome });
runConformance({ name: "overlay2 on xfs", factory: overlay2, makeHome: () => loopHome("xfs") });
