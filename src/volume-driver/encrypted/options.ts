/** Options of the encrypted driver. */
import { normalize } from "node:path";
import { EngineError } from "../../base/errors.ts";
import type { VolumeSpec } from "../driver.ts";
import { refuseUnknown } from "../option-names.ts";
import { parseReference } from "../secret-reference.ts";

export type EncryptedOptions = {
  /** Where the encrypted files are; in the volume's own folder when undefined. */
  readonly device: string | undefined;
};

/** Throws invalid_argument that names the option. */
export function parseOptions(options: VolumeSpec["options"]): EncryptedOptions {
  refuseUnknown("encrypted", options, ["key", "device"]);
  const { key, device } = options;
  if (key === undefined)
    throw new EngineError(
      "invalid_argument",
      'missing required option: "key"; key=@/path/to/file names the file with the key',
    );
  parseReference("key", key);
  if (device !== undefined) refuseStrange(device);
  return { device };
}

function refuseStrange(device: string): void {
  if (
    device.startsWith("/") &&
    normalize(device) === device &&
    !device.endsWith("/") &&
    !/[\x00-\x1f\x7f]/.test(device)
  )
    return;
  throw new EngineError(
    "invalid_argument",
    `invalid value of the option device: ${JSON.stringify(device)}; it takes the absolute path of a directory`,
  );
}
