/**
 * The program notes in each file that it copies up which path it came from, and later gives it the inode number of what
 * stands at that path below. Of two names of such a file one may show that number and the other its own, as the one's
 * directory hides what is below. Without the notes both show the file's own: a hard link stays one. For workers.
 */
import { constants } from "node:fs";
import type { TaskContext } from "../../host/pool.ts";
import {
  AT_FDCWD,
  closeFd,
  getXattr,
  O,
  openat2,
  RESOLVE,
  readDirectory,
  removeXattr,
  statat,
} from "../../host/sys.ts";

const origin = "user.fuseoverlayfs.origin";

/** Takes the notes from every file of `directory`, where nothing is mounted or changes any more. */
export function dropOriginsTask({ directory }: { readonly directory: string }, { signal }: TaskContext): void {
  walk(openat2(AT_FDCWD, directory, { flags: O.RDONLY | O.DIRECTORY | O.NOFOLLOW }), signal);
}

/** Closes `fd`. */
function walk(fd: number, signal: AbortSignal): void {
  try {
    signal.throwIfAborted();
    for (const name of readDirectory(fd)) {
      const type = statat(fd, name).mode & constants.S_IFMT;
      if (type === constants.S_IFDIR)
        walk(openat2(fd, name, { flags: O.RDONLY | O.DIRECTORY | O.NOFOLLOW, resolve: RESOLVE.BENEATH }), signal);
      else if (type === constants.S_IFREG && getXattr(fd, name, origin) !== undefined) removeXattr(fd, name, origin);
    }
  } finally {
    closeFd(fd);
  }
}
