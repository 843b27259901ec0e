/** The options of a zfs volume: `dataset`, below which its own is made, and `size`. */
import { EngineError } from "../../base/errors.ts";
import { parseSize } from "../../base/size.ts";
import { isDatasetName } from "../../host/zfs-dataset.ts";
import type { VolumeSpec } from "../driver.ts";

export type ZfsOptions = { readonly dataset: string | undefined; readonly size: number | undefined };

/** Throws invalid_argument that names the option. */
export function parseOptions(options: VolumeSpec["options"]): ZfsOptions {
  const { dataset, size, ...others } = options;
  const [unknown] = Object.keys(others);
  if (unknown !== undefined)
    throw new EngineError("invalid_argument", `invalid option: ${JSON.stringify(unknown)}; zfs has dataset, size`);
  if (dataset !== undefined && !isDatasetName(dataset))
    throw new EngineError("invalid_argument", `the option dataset must name a dataset, not ${JSON.stringify(dataset)}`);
  const bytes = size === undefined ? 0 : parseSize(size);
  return { dataset, size: bytes === 0 ? undefined : bytes };
}
