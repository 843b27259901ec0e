/**
 * Whether two entries of trees are the same in all that a container can set: type, permissions, owner, size, content,
 * modification time, device number, link target, extended attributes. Content is compared byte by byte, because a time
 * can be set back. For workers.
 */
import { type FileStat, readlinkat } from "../host/sys.ts";
import { bytesOf, nameOf } from "./bytes.ts";
import { isDirectory, isFile, isSymlink, type Location } from "./root-tree.ts";
import { sameContent } from "./same-content.ts";
import { plainXattrs, readXattrs } from "./write-tree.ts";

export type Side = { readonly at: Location; readonly stat: FileStat };

/** All of it; for a directory without what is in it. */
export const sameEntry = (a: Side, b: Side): boolean => sameAttributes(a, b) && sameBody(a, b);

/** Owner, permissions, time (or its seconds), extended attributes (but the label that the host's policy gives). */
export function sameAttributes({ at, stat }: Side, other: Side, wholeSeconds = false): boolean {
  const { mode, uid, gid, mtimeSec, mtimeNsec } = other.stat;
  if (stat.mode !== mode || stat.uid !== uid || stat.gid !== gid) return false;
  if (stat.mtimeSec !== mtimeSec || (stat.mtimeNsec !== mtimeNsec && !wholeSeconds)) return false;
  return sameXattrs(readXattrs(at, plainXattrs), readXattrs(other.at, plainXattrs));
}

/** What cannot be set after an entry was made: type, device number, link target, content. */
export function sameBody(a: Side, b: Side): boolean {
  const { mode } = a.stat;
  if ((mode & 0o170000) !== (b.stat.mode & 0o170000)) return false;
  if (isDirectory(mode)) return true;
  if (isSymlink(mode)) return linkTarget(a.at) === linkTarget(b.at);
  if (isFile(mode)) return a.stat.size === b.stat.size && (a.stat.size === 0 || sameContent(a.at, b.at));
  return a.stat.rdevMajor === b.stat.rdevMajor && a.stat.rdevMinor === b.stat.rdevMinor;
}

export function sameXattrs(a: ReadonlyMap<string, Buffer>, b: ReadonlyMap<string, Buffer>): boolean {
  if (a.size !== b.size) return false;
  for (const [name, value] of a) if (b.get(name)?.equals(value) !== true) return false;
  return true;
}

export const linkTarget = (at: Location): string => bytesOf(readlinkat(at.fd, nameOf(at.name)));
