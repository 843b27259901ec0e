/** The names of a volume's options, against those that its driver has. Pure. */
import { EngineError } from "../base/errors.ts";
import type { VolumeSpec } from "./driver.ts";

/** Throws invalid_argument that names the option, and those that there are. */
export function refuseUnknown(driver: string, options: VolumeSpec["options"], known: readonly string[]): void {
  for (const name of Object.keys(options)) {
    if (known.includes(name)) continue;
    const words = `invalid option: ${JSON.stringify(name)}; ${driver} has ${known.join(", ")}`;
    throw new EngineError("invalid_argument", words);
  }
}
