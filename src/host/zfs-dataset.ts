/** Names of ZFS datasets, and which one a path stands on. */
import { readFileSync, realpathSync } from "node:fs";
import { nearestExisting } from "./filesystem.ts";
import { mountTable } from "./mount.ts";

const component = "[A-Za-z0-9][A-Za-z0-9_.:-]*";
const pattern = new RegExp(`^${component}(/${component})*$`);

export const isDatasetName = (text: string): boolean => pattern.test(text);

/** Whether the kernel itself knows ZFS; where a process serves it (zfs-fuse), mount(2) knows nothing of it. */
export const isZfsInKernel = (): boolean => /\tzfs$/m.test(readFileSync("/proc/filesystems", "utf8"));

/** The dataset that holds `path` or where it would be made, or the type of the filesystem that does instead. */
export async function datasetHolding(path: string): Promise<{ readonly dataset?: string; readonly type: string }> {
  const above = realpathSync(await nearestExisting(path));
  const holds = (target: string): boolean => target === "/" || above === target || above.startsWith(`${target}/`);
  const { type, source } = mountTable()
    .filter(({ target }) => holds(target))
    .reduce((best, entry) => (entry.target.length >= best.target.length ? entry : best));
  return type === "zfs" || type === "fuse.zfs" ? { dataset: source, type } : { type };
}
