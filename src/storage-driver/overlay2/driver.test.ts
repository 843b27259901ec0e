import { runConformance } from "../conformance.ts";
import { loopHome, scratchHome } from "../scratch-home.ts";
import { overlay2 } from "./driver.ts";

runConformance({ name: "overlay2 on the scratch filesystem", factory: overlay2, makeHome: scratchHome });
runConformance({ name: "overlay2 on xfs", factory: overlay2, makeHome: () => loopHome("xfs") });

/** Every writable in a filesystem of its own (or a project of its own, where the scratch filesystem has them). */
runConformance({
  name: "overlay2 with a size limit for each container",
  factory: {
    ...overlay2,
    open: (home, options, context) => overlay2.open(home, { "overlay2.size": "128m", ...options }, context),
  },
  makeHome: scratchHome,
});
