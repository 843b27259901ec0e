/**
 * System calls on directory descriptors: what Node's `fs` does not offer, and what a path chosen by a stranger needs.
 * Everything is synchronous, so it belongs into workers and children, or where a call is known to be short.
 *
 * Names are bytes (`string | Uint8Array`), relative to `dirFd`; the last component is never followed. An empty name
 * means the descriptor itself. Failures are Errors with `code`, `errno`, `syscall` and `path` (see libc.ts).
 */
import { constants, statfsSync } from "node:fs";
import { check, cString, lastErrno, type Name, native, nativeSyscall, syscallNumber, systemError } from "./libc.ts";

export const AT_FDCWD = -100;
export const AT_SYMLINK_NOFOLLOW = 0x100;
export const AT_REMOVEDIR = 0x200;
export const AT_SYMLINK_FOLLOW = 0x400;
export const AT_EMPTY_PATH = 0x1000;

/** Flags of `openat2`; those that differ between machines come from Node. */
export const O = {
  RDONLY: 0,
  WRONLY: 1,
  RDWR: 2,
  CREAT: constants.O_CREAT,
  EXCL: constants.O_EXCL,
  TRUNC: constants.O_TRUNC,
  APPEND: constants.O_APPEND,
  NONBLOCK: constants.O_NONBLOCK,
  DIRECTORY: constants.O_DIRECTORY,
  NOFOLLOW: constants.O_NOFOLLOW,
  NOATIME: constants.O_NOATIME,
  CLOEXEC: 0o2000000,
  PATH: 0o10000000,
} as const;

/** `resolve` bits of `openat2` (linux/openat2.h). */
export const RESOLVE = { NO_XDEV: 1, NO_MAGICLINKS: 2, NO_SYMLINKS: 4, BENEATH: 8, IN_ROOT: 16 } as const;

/** Flags of `renameat2`. */
export const RENAME = { NOREPLACE: 1, EXCHANGE: 2, WHITEOUT: 4 } as const;

export type OpenHow = { readonly flags: number; readonly mode?: number; readonly resolve?: number };

/** FUSE_SUPER_MAGIC */
const fuseMagic = 0x65735546;
const errno = { EINTR: 4, EIO: 5, EBADF: 9, EAGAIN: 11, ENOSYS: 38, ENODATA: 61, EOPNOTSUPP: 95 } as const;

const calls = {
  openat2: nativeSyscall(437, "int dirFd, const void *path, const void *how, size_t size"),
  fchmodat2: nativeSyscall(452, "int dirFd, const void *path, uint32_t mode, int flags"),
  mknodat: nativeSyscall(syscallNumber(259, 33), "int dirFd, const void *path, uint32_t mode, uint32_t device"),
  renameat2: nativeSyscall(
    syscallNumber(316, 276),
    "int oldDirFd, const void *oldPath, int newDirFd, const void *newPath, uint32_t flags",
  ),
  getdents64: nativeSyscall(syscallNumber(217, 61), "int fd, void *buffer, size_t size"),
  mkdirat: native("int mkdirat(int, const void *, uint32_t)"),
  symlinkat: native("int symlinkat(const void *, int, const void *)"),
  linkat: native("int linkat(int, const void *, int, const void *, int)"),
  unlinkat: native("int unlinkat(int, const void *, int)"),
  fchownat: native("int fchownat(int, const void *, uint32_t, uint32_t, int)"),
  chmod: native("int chmod(const void *, uint32_t)"),
  utimensat: native("int utimensat(int, const void *, const void *, int)"),
  readlinkat: native("long readlinkat(int, const void *, void *, size_t)"),
  statx: native("int statx(int, const void *, int, uint32_t, void *)"),
  lseek: native("int64_t lseek(int, int64_t, int)"),
  close: native("int close(int)"),
};

const how = new BigUint64Array(3);
const raceTries = 128;

/**
 * Opens relative to `dirFd` under the rules of `resolve`; O_CLOEXEC is always added. The descriptor is the caller's
 * to close. EAGAIN, which the kernel answers when a rename races a scoped lookup, is tried again some times.
 */
export function openat2(dirFd: number, path: Name, options: OpenHow): number {
  for (let attempt = 1; ; attempt++) {
    how[0] = BigInt(options.flags | O.CLOEXEC);
    how[1] = BigInt(options.mode ?? 0);
    how[2] = BigInt(options.resolve ?? 0);
    const fd = calls.openat2(dirFd, cString(path), how, 24);
    if (fd >= 0) return fd;
    const code = lastErrno();
    if (code === errno.EINTR) continue;
    if (code !== errno.EAGAIN || attempt >= raceTries) throw systemError("openat2", path, code);
  }
}

export function mkdirat(dirFd: number, name: Name, mode: number): void {
  check(calls.mkdirat(dirFd, cString(name), mode), "mkdirat", name);
}

/** `mode` carries the file type (S_IFIFO, S_IFCHR, ...). */
export function mknodat(dirFd: number, name: Name, ...[mode, major, minor]: [number, number, number]): void {
  // The kernel's own encoding: 12 bits of major between the low 8 and the high 12 bits of minor.
  const device = ((minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xfff00) << 12)) >>> 0;
  check(calls.mknodat(dirFd, cString(name), mode, device), "mknodat", name);
}

/** Makes the symlink `name` that says `target`. */
export function symlinkat(target: Name, dirFd: number, name: Name): void {
  check(calls.symlinkat(cString(target, 1), dirFd, cString(name)), "symlinkat", name);
}

type TwoNames = [oldDirFd: number, oldName: Name, newDirFd: number, newName: Name, flags?: number];

/** A hard link; the old name is not followed unless AT_SYMLINK_FOLLOW is given. */
export function linkat(...[oldDirFd, oldName, newDirFd, newName, flags = 0]: TwoNames): void {
  check(calls.linkat(oldDirFd, cString(oldName), newDirFd, cString(newName, 1), flags), "linkat", newName);
}

export function renameat2(...[oldDirFd, oldName, newDirFd, newName, flags = 0]: TwoNames): void {
  check(calls.renameat2(oldDirFd, cString(oldName), newDirFd, cString(newName, 1), flags), "renameat2", oldName);
}

/** `flags`: AT_REMOVEDIR for a directory. */
export function unlinkat(dirFd: number, name: Name, flags = 0): void {
  check(calls.unlinkat(dirFd, cString(name), flags), "unlinkat", name);
}

const noFollow = (name: Name): number => (name.length === 0 ? AT_EMPTY_PATH : AT_SYMLINK_NOFOLLOW);

/** Never follows. Clears setuid and setgid bits of files, as the kernel does: change the mode after it. */
export function fchownat(dirFd: number, name: Name, ...[uid, gid]: [number, number]): void {
  check(calls.fchownat(dirFd, cString(name), uid, gid, noFollow(name)), "fchownat", name);
}

let hasFchmodat2 = true;

/** Sets all twelve mode bits. Never follows; a symlink has no mode of its own and is left alone. */
export function fchmodat(dirFd: number, name: Name, mode: number): void {
  if (hasFchmodat2) {
    if (calls.fchmodat2(dirFd, cString(name), mode, noFollow(name)) >= 0) return;
    const code = lastErrno();
    if (code === errno.ENOSYS) hasFchmodat2 = false;
    else if (code !== errno.EOPNOTSUPP) throw systemError("fchmodat", name, code);
  }
  fchmodatByDescriptor(dirFd, name, mode);
}

/** `fchmodat` before Linux 6.6, which has no call that does not follow. */
export function fchmodatByDescriptor(dirFd: number, name: Name, mode: number): void {
  const opened = name.length === 0 ? undefined : openat2(dirFd, name, { flags: O.PATH | O.NOFOLLOW });
  const fd = opened ?? dirFd;
  try {
    if ((statat(fd, "").mode & constants.S_IFMT) === constants.S_IFLNK) return;
    check(calls.chmod(cString(`/proc/self/fd/${fd}`), mode), "fchmodat", name);
  } finally {
    if (opened !== undefined) closeFd(opened);
  }
}

const times = new BigInt64Array(4);
const nanosecondsPerSecond = 1_000_000_000n;
const omit = (1n << 30n) - 2n;

function setTimespec(at: 0 | 2, time: bigint | undefined): void {
  if (time === undefined) {
    times[at] = 0n;
    times[at + 1] = omit;
    return;
  }
  // Nanoseconds are never negative: -1 ns is second -1 and 999,999,999 ns.
  const nanoseconds = ((time % nanosecondsPerSecond) + nanosecondsPerSecond) % nanosecondsPerSecond;
  times[at] = (time - nanoseconds) / nanosecondsPerSecond;
  times[at + 1] = nanoseconds;
}

type TwoTimes = [atimeNs: bigint | undefined, mtimeNs: bigint | undefined];

/** Sets times in nanoseconds since the epoch, also before it; undefined leaves one as it is. Never follows. */
export function utimensat(dirFd: number, name: Name, ...[atimeNs, mtimeNs]: TwoTimes): void {
  setTimespec(0, atimeNs);
  if (mtimeNs === atimeNs) times.copyWithin(2, 0, 2);
  else setTimespec(2, mtimeNs);
  check(calls.utimensat(dirFd, cString(name), times, noFollow(name)), "utimensat", name);
}

/** Scratch of this thread, for the very next call only. The kernel's limit for xattrs and their lists is 64 KiB. */
const scratch = Buffer.alloc(65536);

/** What a symlink says, as bytes. */
export function readlinkat(dirFd: number, name: Name): Buffer {
  const length = check(calls.readlinkat(dirFd, cString(name), scratch, scratch.length), "readlinkat", name);
  return Buffer.from(scratch.subarray(0, length));
}

export type FileStat = {
  /** Type and permissions. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  /** Seconds since the epoch, negative before it; the nanoseconds count forward from there. */
  readonly mtimeSec: number;
  readonly mtimeNsec: number;
  /** Of the latest change of content or attributes; nobody can set it back. */
  readonly ctimeSec: number;
  readonly ctimeNsec: number;
  readonly nlink: number;
  readonly ino: bigint;
  /** As `st_dev` of stat(2). */
  readonly dev: bigint;
  readonly rdevMajor: number;
  readonly rdevMinor: number;
  /** In units of 512 bytes. */
  readonly blocks: number;
};

const statx = new ArrayBuffer(256);
const statx8 = new Uint8Array(statx);
const statx16 = new Uint16Array(statx);
const statx32 = new Uint32Array(statx);
const statx64 = new BigUint64Array(statx);
const basicStats = 0x7ff;

/** Attributes of `name`, or of the descriptor itself when the name is empty (statx(2), the same on every machine). */
export function statat(dirFd: number, name: Name, follow = false): FileStat {
  const flags = name.length === 0 ? AT_EMPTY_PATH : follow ? 0 : AT_SYMLINK_NOFOLLOW;
  check(calls.statx(dirFd, cString(name), flags, basicStats, statx8), "statx", name);
  const word = (index: number): number => statx32[index] ?? 0;
  const long = (index: number): bigint => statx64[index] ?? 0n;
  return {
    mode: statx16[14] ?? 0,
    uid: word(5),
    gid: word(6),
    size: word(10) + word(11) * 0x1_0000_0000,
    mtimeSec: word(28) + (word(29) | 0) * 0x1_0000_0000,
    mtimeNsec: word(30),
    ctimeSec: word(24) + (word(25) | 0) * 0x1_0000_0000,
    ctimeNsec: word(26),
    nlink: word(4),
    ino: long(4),
    dev: deviceOf(word(34), word(35)),
    rdevMajor: word(32),
    rdevMinor: word(33),
    blocks: word(12) + word(13) * 0x1_0000_0000,
  };
}

let latest = { major: -1, minor: -1, device: 0n };

/** Most files are on the device of the one before. */
function deviceOf(major: number, minor: number): bigint {
  if (latest.major !== major || latest.minor !== minor) latest = { major, minor, device: makeDevice(major, minor) };
  return latest.device;
}

/** glibc's makedev, so that numbers compare with those of Node's stat. */
function makeDevice(major: number, minor: number): bigint {
  const low = ((major & 0xfff) << 8) | (minor & 0xff);
  if (major < 0x1000 && minor < 0x100) return BigInt(low);
  return (BigInt(major & ~0xfff) << 32n) | (BigInt(minor & ~0xff) << 12n) | BigInt(low);
}

/** Names in an open directory, without `.` and `..`, in the filesystem's order. Always from the beginning. */
export function readDirectory(fd: number): Buffer[] {
  const names: Buffer[] = [];
  eachEntry(fd, (start, end) => names.push(Buffer.from(scratch.subarray(start, end))));
  return names;
}

/** As {@link readDirectory}, one character for each byte. With `files`, those that the filesystem calls regular files. */
export function readNames(fd: number, files?: Set<string>): string[] {
  const names: string[] = [];
  eachEntry(fd, (start, end) => {
    const name = scratch.toString("latin1", start, end);
    names.push(name);
    if (scratch[start - 1] === regularFile) files?.add(name);
  });
  return names;
}

/** DT_REG of struct linux_dirent64. */
const regularFile = 8;

/** Where names begin and end in `scratch`; their types stand before them. */
function eachEntry(fd: number, use: (start: number, end: number) => void): void {
  check(calls.lseek(fd, 0, 0), "lseek");
  for (;;) {
    const length = check(calls.getdents64(fd, scratch, scratch.length), "getdents64");
    if (length === 0) return;
    // struct linux_dirent64: ino 8, offset 8, record length 2, type 1, name with a NUL.
    for (let at = 0; at < length; at += scratch.readUInt16LE(at + 16)) {
      const start = at + 19;
      const end = scratch.indexOf(0, start);
      const dots = scratch[start] === 0x2e && (end === start + 1 || (scratch[start + 1] === 0x2e && end === start + 2));
      if (!dots) use(start, end);
    }
  }
}

/**
 * A path for the l*xattr calls, which know no directory descriptor: the kernel's link to the descriptor is followed,
 * the name after it is not.
 */
function xattrPath(dirFd: number, name: Name): Name {
  if (dirFd === AT_FDCWD) return name;
  if (name.length === 0) return `/proc/self/fd/${dirFd}`;
  if (typeof name === "string") return name.startsWith("/") ? name : `/proc/self/fd/${dirFd}/${name}`;
  return name[0] === 0x2f ? name : Buffer.concat([Buffer.from(`/proc/self/fd/${dirFd}/`), name]);
}

/** With an empty name the path is itself a link, which must be followed. */
const xattrCalls = {
  ofDescriptor: native("long flistxattr(int, void *, size_t)"),
  list: [
    native("long llistxattr(const void *, void *, size_t)"),
    native("long listxattr(const void *, void *, size_t)"),
  ],
  get: [
    native("long lgetxattr(const void *, const void *, void *, size_t)"),
    native("long getxattr(const void *, const void *, void *, size_t)"),
  ],
  set: [
    native("int lsetxattr(const void *, const void *, const void *, size_t, int)"),
    native("int setxattr(const void *, const void *, const void *, size_t, int)"),
  ],
  remove: [
    native("int lremovexattr(const void *, const void *)"),
    native("int removexattr(const void *, const void *)"),
  ],
} as const;

const ofName = <T>(pair: readonly [T, T], name: Name): T => pair[name.length === 0 ? 1 : 0];

/** Names of all attributes (`trusted.` only for root); none where the filesystem has no attributes. Never follows. */
export function listXattrs(dirFd: number, name: Name): string[] {
  let length = name.length === 0 ? xattrCalls.ofDescriptor(dirFd, scratch, scratch.length) : -1;
  // Only a path leads to what is open for its name alone.
  if (name.length > 0 || (length < 0 && lastErrno() === errno.EBADF))
    length = ofName(xattrCalls.list, name)(cString(xattrPath(dirFd, name)), scratch, scratch.length);
  const failed = length < 0 ? lastErrno() : 0;
  if (failed === errno.EOPNOTSUPP || (failed === errno.EIO && refusesXattrs(dirFd, name))) return [];
  check(length, "llistxattr", name);
  return length === 0 ? [] : scratch.toString("utf8", 0, length - 1).split("\0");
}

/** Some FUSE programs (rclone) say EIO to every question about attributes: they have none. A disk's EIO stays one. */
function refusesXattrs(dirFd: number, name: Name): boolean {
  const path = xattrPath(dirFd, name);
  if (statfsSync(typeof path === "string" ? path : Buffer.from(path)).type !== fuseMagic) return false;
  const asked = ofName(xattrCalls.get, name)(cString(path), cString("user.none", 1), scratch, scratch.length);
  return asked < 0 && lastErrno() === errno.EIO;
}

/** The value, or undefined when there is no such attribute. Never follows. */
export function getXattr(dirFd: number, name: Name, attribute: Name): Buffer | undefined {
  const path = cString(xattrPath(dirFd, name));
  const length = ofName(xattrCalls.get, name)(path, cString(attribute, 1), scratch, scratch.length);
  if (length < 0 && (lastErrno() === errno.ENODATA || lastErrno() === errno.EOPNOTSUPP)) return undefined;
  check(length, "lgetxattr", name);
  return Buffer.from(scratch.subarray(0, length));
}

/** Makes or replaces an attribute. Never follows. */
export function setXattr(dirFd: number, name: Name, ...[attribute, value]: [Name, Uint8Array]): void {
  const path = cString(xattrPath(dirFd, name));
  const result = ofName(xattrCalls.set, name)(path, cString(attribute, 1), value, value.length, 0);
  check(result, "lsetxattr", name);
}

/** ENODATA when there is no such attribute. Never follows. */
export function removeXattr(dirFd: number, name: Name, attribute: Name): void {
  const path = cString(xattrPath(dirFd, name));
  check(ofName(xattrCalls.remove, name)(path, cString(attribute, 1)), "lremovexattr", name);
}

/** Closes a descriptor that came from here. */
export function closeFd(fd: number): void {
  check(calls.close(fd), "close");
}

/** Closes a descriptor through which nothing was written: it is gone whatever close(2) says, and there is nothing to lose. */
export function closeRead(fd: number): void {
  calls.close(fd);
}
