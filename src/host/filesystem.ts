/**
 * What lies under a driver's home: the name of the filesystem in Docker's words, and the nearest folder that exists
 * (a home is probed before it is made). Nothing here writes.
 */
import { stat, statfs } from "node:fs/promises";
import { dirname } from "node:path";
import { systemCode } from "../base/errors.ts";

/** statfs(2) magic -> the name that `docker info` shows as "Backing Filesystem" (moby graphdriver/fsname). */
const names: Readonly<Record<number, string>> = {
  61267: "extfs",
  1481003842: "xfs",
  2435016766: "btrfs",
  16914836: "tmpfs",
  2035054128: "overlayfs",
  801189825: "zfs",
  1702057286: "fuseblk",
  26985: "nfs",
  1635083891: "aufs",
  4076150800: "f2fs",
  827541066: "jfs",
  3774210530: "erofs",
  1936814952: "squashfs",
  18225520: "gfs2",
  1196443219: "gpfs",
  4283649346: "cifs",
  61791: "ecryptfs",
};

/** Docker's name of the filesystem that holds `path`, which exists. */
export async function filesystemName(path: string): Promise<string> {
  const { type } = await statfs(path);
  return names[type] ?? "<unknown>";
}

/** `path`, or its nearest ancestor that exists. */
export async function nearestExisting(path: string): Promise<string> {
  try {
    await stat(path);
    return path;
  } catch (error) {
    if (systemCode(error) !== "ENOENT" || dirname(path) === path) throw error;
    return nearestExisting(dirname(path));
  }
}
