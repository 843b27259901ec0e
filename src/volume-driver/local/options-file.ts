/** moby's `opts.json`, which stands beside the data of a volume that has options. */
import type { VolumeSpec } from "../driver.ts";
import { sizeOf } from "./validate.ts";

/** Undefined for a volume without options, which has no such file. */
export function formatOptionsFile(options: VolumeSpec["options"]): string | undefined {
  const { type = "", device = "", o = "" } = options;
  const size = sizeOf(options) ?? 0;
  if (type === "" && size === 0) return undefined;
  return JSON.stringify({ MountType: type, MountOpts: o, MountDevice: device, Quota: { Size: size } });
}

/** The options that gave such a file; what is none of ours says nothing. */
export function parseOptionsFile(text: string): VolumeSpec["options"] {
  let file: unknown;
  try {
    file = JSON.parse(text);
  } catch {
    return {};
  }
  const words = { type: wordOf(file, "MountType"), device: wordOf(file, "MountDevice"), o: wordOf(file, "MountOpts") };
  const size = fieldOf(fieldOf(file, "Quota"), "Size");
  const options = typeof size === "number" && size > 0 ? { ...words, size: String(size) } : words;
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== ""));
}

const fieldOf = (value: unknown, name: string): unknown =>
  typeof value === "object" && value !== null ? new Map(Object.entries(value)).get(name) : undefined;

const wordOf = (value: unknown, name: string): string => {
  const word = fieldOf(value, name);
  return typeof word === "string" ? word : "";
};
