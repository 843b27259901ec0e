/** Copying a volume's content in a pool worker. */
import { copyTree } from "../host/copy-tree.ts";
import type { TaskContext } from "../host/pool.ts";
import { AT_FDCWD, closeFd, O, openat2 } from "../host/sys.ts";

export type CopyTask = { readonly from: string; readonly to: string };

const directory = { flags: O.RDONLY | O.DIRECTORY | O.NOFOLLOW };

/** Copies what is in `from` into the empty directory `to`, and its own attributes; shares blocks where both filesystems are one that can. */
export function copyTreeTask({ from, to }: CopyTask, { signal }: TaskContext): void {
  const source = openat2(AT_FDCWD, from, directory);
  try {
    const target = openat2(AT_FDCWD, to, directory);
    try {
      copyTree(source, target, { signal, unsupportedXattrs: "fail" });
    } finally {
      closeFd(target);
    }
  } finally {
    closeFd(source);
  }
}
