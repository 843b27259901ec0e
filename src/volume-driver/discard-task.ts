/** Removes a volume's tree in a worker: it may be wide, deep and slow to unlink, hold subvolumes, or have a quota. */
import { basename, dirname, join } from "node:path";
import { systemCode } from "../base/errors.ts";
import type { TaskContext } from "../host/pool.ts";
import { releaseFolder } from "../host/project-limit.ts";
import { removeTreeAt } from "../host/remove-tree.ts";
import { destroySubvolumesIn } from "../host/subvolume-task.ts";
import { AT_FDCWD, closeFd, O, openat2 } from "../host/sys.ts";
import { dataName } from "./content.ts";
import { onBtrfs, snapshotData } from "./content-task.ts";

/** What the kernel says where a subvolume is in the way. */
const inTheWay = new Set(["EXDEV", "EROFS", "ENOTEMPTY", "EPERM", "EBUSY"]);

/** `path` is below the driver's own directory and named by the driver. Missing: nothing. */
export function discardTask(path: string, { signal }: TaskContext): void {
  releaseProject(join(path, dataName));
  // Data that is no subvolume is not walked through for them.
  destroySubvolumes(path, [dataName, snapshotData]);
  const parent = openat2(AT_FDCWD, dirname(path), { flags: O.RDONLY | O.DIRECTORY });
  try {
    removeTreeAt(parent, basename(path), signal);
  } catch (error) {
    if (!inTheWay.has(systemCode(error) ?? "") || !onBtrfs(path)) throw error;
    // A container made them in it.
    destroySubvolumes(path, []);
    removeTreeAt(parent, basename(path), signal);
  } finally {
    closeFd(parent);
  }
}

function releaseProject(data: string): void {
  try {
    releaseFolder(data);
  } catch {
    // Most filesystems have no projects.
  }
}

function destroySubvolumes(path: string, closed: readonly string[]): void {
  try {
    if (onBtrfs(path)) destroySubvolumesIn(path, closed);
  } catch (error) {
    if (systemCode(error) !== "ENOENT" && systemCode(error) !== "ENOTDIR") throw error;
  }
}
