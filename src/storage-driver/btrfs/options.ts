/** The daemon's options of the btrfs driver: `btrfs.min_space` (Docker's) and `btrfs.size` (that of containers/storage). */
import { EngineError } from "../../base/errors.ts";
import { parseSize } from "../../base/size.ts";
import { checkedSize, type SizeRules } from "../size-limit.ts";

/** Throws invalid_argument for an option that is unknown or no size. */
export function parseOptions(options: Readonly<Record<string, string>>): SizeRules {
  const given = new Map(Object.entries(options).map(([key, value]) => [key.toLowerCase(), value]));
  const [least, standard] = [given.get("btrfs.min_space"), given.get("btrfs.size")];
  for (const key of given.keys())
    if (key !== "btrfs.min_space" && key !== "btrfs.size")
      throw new EngineError("invalid_argument", `btrfs: unknown option ${key}; known are btrfs.min_space, btrfs.size`);
  const rules: SizeRules = { driver: "btrfs", minimum: least === undefined ? undefined : parseSize(least) };
  return standard === undefined ? rules : { ...rules, standard: checkedSize(standard, rules) };
}
