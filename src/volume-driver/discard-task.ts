/** Removes a volume's tree in a worker: it may be wide, deep and slow to unlink. */
import { basename, dirname } from "node:path";
import type { TaskContext } from "../host/pool.ts";
import { removeTreeAt } from "../host/remove-tree.ts";
import { AT_FDCWD, closeFd, O, openat2 } from "../host/sys.ts";

/** `path` is below the driver's own directory and named by the driver. Missing: nothing. */
export function discardTask(path: string, { signal }: TaskContext): void {
  const parent = openat2(AT_FDCWD, dirname(path), { flags: O.RDONLY | O.DIRECTORY });
  try {
    removeTreeAt(parent, basename(path), signal);
  } finally {
    closeFd(parent);
  }
}
