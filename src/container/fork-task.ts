/** Copies one volume's content into another one, which is new and empty, in a pool worker. */
import { copyTree } from "../host/copy-tree.ts";
import type { TaskContext } from "../host/pool.ts";
import { AT_FDCWD, closeFd, O, openat2 } from "../host/sys.ts";

const directory = { flags: O.RDONLY | O.DIRECTORY };

export function copyVolumeTask(
  { source, target }: { readonly source: string; readonly target: string },
  { signal }: Pick<TaskContext, "signal">,
): void {
  const from = openat2(AT_FDCWD, source, directory);
  try {
    const to = openat2(AT_FDCWD, target, directory);
    try {
      copyTree(from, to, { signal, unsupportedXattrs: "fail" });
    } finally {
      closeFd(to);
    }
  } finally {
    closeFd(from);
  }
}
