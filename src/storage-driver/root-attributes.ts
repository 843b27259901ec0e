/**
 * The root of an overlay shows the attributes of its topmost directory, never merged ones. So that a child keeps its
 * parent's root as it was (owner, mode, times, xattrs), as every other directory does, they are copied to the new top.
 */
import {
  AT_FDCWD,
  closeFd,
  fchmodat,
  fchownat,
  getXattr,
  listXattrs,
  O,
  openat2,
  setXattr,
  statat,
  utimensat,
} from "../../host/sys.ts";

/** Copies the attributes of directory `from` to directory `to`, without overlayfs's own marks (`prefix`). */
export function copyRootAttributes(from: string, to: string, prefix: string): void {
  const source = openat2(AT_FDCWD, from, { flags: O.RDONLY | O.DIRECTORY | O.NOFOLLOW });
  try {
    const target = openat2(AT_FDCWD, to, { flags: O.RDONLY | O.DIRECTORY | O.NOFOLLOW });
    try {
      copy(source, target, prefix);
    } finally {
      closeFd(target);
    }
  } finally {
    closeFd(source);
  }
}

function copy(source: number, target: number, prefix: string): void {
  const { uid, gid, mode, mtimeSec, mtimeNsec } = statat(source, "");
  fchownat(target, "", uid, gid);
  for (const attribute of listXattrs(source, "")) {
    // An escaped one (trusted.overlay.overlay.x) is the image's own and stays; the others are the kernel's.
    if (attribute.startsWith(prefix) && !attribute.startsWith(`${prefix}overlay.`)) continue;
    const value = getXattr(source, "", attribute);
    if (value !== undefined) setXattr(target, "", attribute, value);
  }
  fchmodat(target, "", mode & 0o7777);
  const time = BigInt(mtimeSec) * 1_000_000_000n + BigInt(mtimeNsec);
  utimensat(target, "", time, time);
}
