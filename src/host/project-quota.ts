/**
 * Project quotas of ext4 and xfs: a directory belongs to a project, what is made in it inherits that, and a project may
 * take only so many bytes. The calls are those of linux/fs.h, linux/dqblk_xfs.h and quotactl_fd(2) (Linux 5.14), the
 * same for both filesystems. Synchronous and short. ENOSYS, EOPNOTSUPP, ESRCH or EINVAL where there is no such thing.
 */
import { systemCode } from "../base/errors.ts";
import { ioctl } from "./ioctl.ts";
import { check, nativeSyscall } from "./libc.ts";
import { AT_FDCWD, closeRead, O, openat2 } from "./sys.ts";

/** _IOR('X', 31, struct fsxattr), _IOW('X', 32, struct fsxattr). */
const request = { getAttributes: 0x801c581f, setAttributes: 0x401c5820 };
/** struct fsxattr: flags, extent size, extents, project, ... */
const attributesSize = 28;
const projectAt = 12;
const FS_XFLAG_PROJINHERIT = 0x200;

const PRJQUOTA = 2;
/** QCMD(Q_XGETQUOTA, PRJQUOTA), QCMD(Q_XSETQLIM, PRJQUOTA). */
const command = { get: (0x5803 << 8) | PRJQUOTA, setLimits: (0x5804 << 8) | PRJQUOTA };
/** struct fs_disk_quota; it counts blocks of 512 bytes. */
const quotaSize = 112;
const quotaBlock = 512n;
const FS_DQUOT_VERSION = 1;
const XFS_PROJ_QUOTA = 2;
const FS_DQ_BSOFT = 1 << 2;
const FS_DQ_BHARD = 1 << 3;

const quotactlFd = nativeSyscall(443, "uint32_t fd, uint32_t command, uint32_t id, void *data");

/** The project of a directory; 0 is none. */
export function projectOf(directory: string): number {
  return withDirectory(directory, (fd) => readAttributes(fd).readUInt32LE(projectAt));
}

/** Puts an empty directory, and what will be made in it, into a project. */
export function setProject(directory: string, project: number): void {
  withDirectory(directory, (fd) => {
    const attributes = readAttributes(fd);
    attributes.writeUInt32LE((attributes.readUInt32LE(0) | FS_XFLAG_PROJINHERIT) >>> 0, 0);
    attributes.writeUInt32LE(project, projectAt);
    ioctl(fd, request.setAttributes, attributes);
  });
}

export type ProjectUsage = {
  /** Bytes; 0 is no limit. */
  readonly limit: number;
  readonly bytes: number;
  readonly inodes: number;
};

/** What a project of the filesystem that holds `directory` takes and may take. */
export function projectUsage(directory: string, project: number): ProjectUsage {
  const quota = Buffer.alloc(quotaSize);
  try {
    withDirectory(directory, (fd) => check(quotactlFd(fd, command.get, project, quota), "quotactl_fd", directory));
  } catch (error) {
    // xfs knows nothing of a project that was never used.
    if (systemCode(error) !== "ENOENT") throw error;
  }
  const word = (at: number): bigint => quota.readBigUInt64LE(at);
  return { limit: Number(word(8) * quotaBlock), bytes: Number(word(40) * quotaBlock), inodes: Number(word(48)) };
}

/** Sets how many bytes a project may take; 0 takes the limit away. */
export function limitProject(directory: string, project: number, bytes: number): void {
  const blocks = BigInt(bytes) / quotaBlock;
  const quota = Buffer.alloc(quotaSize);
  quota.writeInt8(FS_DQUOT_VERSION, 0);
  quota.writeInt8(XFS_PROJ_QUOTA, 1);
  quota.writeUInt16LE(FS_DQ_BHARD | FS_DQ_BSOFT, 2);
  quota.writeUInt32LE(project, 4);
  quota.writeBigUInt64LE(blocks, 8);
  quota.writeBigUInt64LE(blocks, 16);
  withDirectory(directory, (fd) => check(quotactlFd(fd, command.setLimits, project, quota), "quotactl_fd", directory));
}

function readAttributes(fd: number): Buffer {
  const attributes = Buffer.alloc(attributesSize);
  ioctl(fd, request.getAttributes, attributes);
  return attributes;
}

function withDirectory<T>(path: string, use: (fd: number) => T): T {
  const fd = openat2(AT_FDCWD, path, { flags: O.RDONLY | O.DIRECTORY | O.NOFOLLOW });
  try {
    return use(fd);
  } finally {
    closeRead(fd);
  }
}
