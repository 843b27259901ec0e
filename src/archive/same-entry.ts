/**
 * Whether two entries of trees are the same in all that a container can set: type, permissions, owner, size, content,
 * modification time, device number, link target, extended attributes. Content is compared byte by byte, because a time
 * can be set back. For workers.
 */
import { readSync } from "node:fs";
import { closeRead, type FileStat, O, openat2, RESOLVE, readlinkat } from "../host/sys.ts";
import { bytesOf, nameOf } from "./bytes.ts";
import { isDirectory, isFile, isSymlink, type Location } from "./root-tree.ts";
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

const linkTarget = (at: Location): string => bytesOf(readlinkat(at.fd, nameOf(at.name)));

const compareSize = 256 * 1024;

function sameContent(a: Location, b: Location): boolean {
  const [one, other] = [Buffer.allocUnsafe(compareSize), Buffer.allocUnsafe(compareSize)];
  using first = openContent(a);
  using second = openContent(b);
  for (;;) {
    const length = readSync(first.fd, one, 0, compareSize, null);
    if (length === 0) return readSync(second.fd, other, 0, 1, null) === 0;
    for (let at = 0; at < length; ) {
      const read = readSync(second.fd, other, at, length - at, null);
      if (read === 0) return false;
      at += read;
    }
    if (one.compare(other, 0, length, 0, length) !== 0) return false;
  }
}

function openContent(at: Location): Disposable & { readonly fd: number } {
  const flags = O.RDONLY | O.NOFOLLOW | O.NONBLOCK;
  const fd = openat2(at.fd, nameOf(at.name), { flags, resolve: RESOLVE.BENEATH });
  return { fd, [Symbol.dispose]: () => closeRead(fd) };
}
