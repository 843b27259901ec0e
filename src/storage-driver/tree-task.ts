/**
 * Walks of whole trees for drivers, run in a pool worker: copying one exactly and emptying one. A layer is fixed when it
 * is copied, so its source does not change meanwhile.
 */
import { systemCode } from "../base/errors.ts";
import { copyTree } from "../host/copy-tree.ts";
import type { TaskContext } from "../host/pool.ts";
import { emptyDirectory } from "../host/remove-tree.ts";
import { AT_FDCWD, closeRead, mkdirat, O, openat2, readDirectory } from "../host/sys.ts";

const openDirectory = { flags: O.RDONLY | O.DIRECTORY | O.NOFOLLOW };

/** Copies the directory `source` to `target`, which must not exist. On failure a part of it stays. */
export function copyTreeTask(
  argument: { readonly source: string; readonly target: string },
  { signal }: Pick<TaskContext, "signal">,
): void {
  const { source, target } = argument;
  mkdirat(AT_FDCWD, target, 0o700);
  const from = openat2(AT_FDCWD, source, openDirectory);
  try {
    const to = openat2(AT_FDCWD, target, openDirectory);
    try {
      copyTree(from, to, { signal, unsupportedXattrs: "fail" });
    } finally {
      closeRead(to);
    }
  } finally {
    closeRead(from);
  }
}

/** As `copyTreeTask`, into the empty directory `target`, whose last name may be a link to it (`/proc/self/fd/N`). */
export function fillTreeTask(
  argument: { readonly source: string; readonly target: string },
  { signal }: Pick<TaskContext, "signal">,
): void {
  const from = openat2(AT_FDCWD, argument.source, openDirectory);
  try {
    const to = openat2(AT_FDCWD, argument.target, { flags: O.RDONLY | O.DIRECTORY });
    try {
      copyTree(from, to, { signal, unsupportedXattrs: "fail" });
    } finally {
      closeRead(to);
    }
  } finally {
    closeRead(from);
  }
}

/** Deletes everything in the directory `folder`, which stays; returns how many entries it had. Two at once is fine. */
export function emptyFolderTask(
  argument: { readonly folder: string },
  { signal }: Pick<TaskContext, "signal">,
): number {
  const fd = openat2(AT_FDCWD, argument.folder, openDirectory);
  try {
    const { length } = readDirectory(fd);
    for (;;) {
      try {
        emptyDirectory(fd, signal);
        return length;
      } catch (error) {
        // Another sweep was faster with that one.
        if (systemCode(error) !== "ENOENT") throw error;
      }
    }
  } finally {
    closeRead(fd);
  }
}
