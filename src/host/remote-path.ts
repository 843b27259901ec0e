/**
 * Which paths may hang: those below a mount whose filesystem is served by a machine or a program that may never answer.
 * Told by the mount table and by links on local disks alone; what may hang is not touched.
 */
import { readlinkSync } from "node:fs";
import { resolve } from "node:path";
import { systemCode } from "../base/errors.ts";
import { type MountEntry, mountTable } from "./mount.ts";

/** Filesystems that the kernel serves from this machine's own disks and memory. Every other one is served by somebody. */
const localTypes: ReadonlySet<string> = new Set(
  `adfs affs aufs bcachefs befs bfs binder binfmt_misc bpf btrfs cgroup cgroup2 configfs cramfs debugfs devpts devtmpfs
   efivarfs efs erofs exfat ext2 ext3 ext4 f2fs fusectl gfs2 hfs hfsplus hpfs hugetlbfs iso9660 jffs2 jfs minix mqueue msdos
   nilfs2 none nsfs ntfs3 omfs overlay proc pstore qnx4 qnx6 ramfs reiserfs resctrl rootfs romfs rpc_pipefs securityfs
   selinuxfs smackfs squashfs sysfs tmpfs tracefs ubifs udf ufs vfat xfs zfs zonefs`.split(/\s+/),
);

/** Whether a filesystem of this type, in the words of mount(8), is served by a program or a machine. */
export const isRemoteType = (type: string): boolean => !localTypes.has(type);

const maxLinks = 40;

/** The mount that may hang and that a look at the absolute `path` would reach; undefined when none is on its way. */
export function remoteMountOf(path: string, table: readonly MountEntry[] = mountTable()): MountEntry | undefined {
  // Of several mounts on one path the last is seen.
  const mounts = new Map(table.map((entry) => [entry.target, entry]));
  if (!mounts.values().some(({ type }) => isRemoteType(type))) return undefined;
  let parts = resolve("/", path).split("/").slice(1);
  let at = "";
  for (let links = 0; parts.length > 0; ) {
    const [part = "", ...rest] = parts;
    const next = `${at}/${part}`;
    const mounted = mounts.get(next);
    if (mounted !== undefined && isRemoteType(mounted.type)) return mounted;
    const link = mounted === undefined ? linkAt(next) : undefined;
    parts = rest;
    if (link === undefined) at = next;
    else if (++links > maxLinks) return undefined;
    else {
      parts = [
        ...resolve(at === "" ? "/" : at, link)
          .split("/")
          .slice(1),
        ...rest,
      ];
      at = "";
    }
  }
  return undefined;
}

function linkAt(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch (error) {
    if (["EINVAL", "ENOENT", "ENOTDIR", "EACCES", "ENAMETOOLONG"].includes(systemCode(error) ?? "")) return undefined;
    throw error;
  }
}
