/**
 * The root of an overlay shows the attributes of its topmost directory, never merged ones. So that a child keeps its
 * parent's root as it was (owner, mode, times, xattrs), as every other directory does, they are copied to the new top.
 */
import {
  AT_FDCWD,
  closeRead,
  fchmodat,
  fchownat,
  getXattr,
  listXattrs,
  O,
  openat2,
  setXattr,
  statat,
  utimensat,
} from "../host/sys.ts";

/** Which xattrs of a directory are the overlay's own marks, and no part of what the directory shows. */
export type OwnMarks = (attribute: string) => boolean;

/** Copies the attributes of directory `from` to directory `to`, without the overlay's own marks. */
export function copyRootAttributes(from: string, to: string, isMark: OwnMarks): void {
  const source = openat2(AT_FDCWD, from, { flags: O.RDONLY | O.DIRECTORY | O.NOFOLLOW });
  try {
    const target = openat2(AT_FDCWD, to, { flags: O.RDONLY | O.DIRECTORY | O.NOFOLLOW });
    try {
      copy(source, target, isMark);
    } finally {
      closeRead(target);
    }
  } finally {
    closeRead(source);
  }
}

function copy(source: number, target: number, isMark: OwnMarks): void {
  const { uid, gid, mode, mtimeSec, mtimeNsec } = statat(source, "");
  fchownat(target, "", uid, gid);
  for (const attribute of listXattrs(source, "")) {
    const value = isMark(attribute) ? undefined : getXattr(source, "", attribute);
    if (value !== undefined) setXattr(target, "", attribute, value);
  }
  fchmodat(target, "", mode & 0o7777);
  const time = BigInt(mtimeSec) * 1_000_000_000n + BigInt(mtimeNsec);
  utimensat(target, "", time, time);
}
