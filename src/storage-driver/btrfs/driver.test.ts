import { runConformance } from "../conformance.ts";
import { loopHome } from "../scratch-home.ts";
import { btrfs } from "./driver.ts";

runConformance({ name: "btrfs", factory: btrfs, makeHome: () => loopHome("btrfs") });
