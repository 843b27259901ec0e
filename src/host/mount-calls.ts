/**
 * The system calls of mounting: mount(2) and umount2(2), and the newer ones that build a mount out of sight and attach
 * it when it is whole (fsopen, fsconfig, fsmount, open_tree, mount_setattr: Linux 5.2, 5.12; move_mount).
 */
import { check, lastErrno, type Name, native, nativeAsync, nativeSyscall, systemError } from "./libc.ts";
import { AT_EMPTY_PATH, AT_FDCWD, closeRead } from "./sys.ts";

/** Flags of mount(2). */
export const MS = {
  RDONLY: 1,
  NOSUID: 2,
  NODEV: 4,
  NOEXEC: 8,
  SYNCHRONOUS: 16,
  REMOUNT: 32,
  MANDLOCK: 64,
  DIRSYNC: 128,
  NOSYMFOLLOW: 256,
  NOATIME: 1024,
  NODIRATIME: 2048,
  BIND: 4096,
  REC: 16384,
  SILENT: 32768,
  PRIVATE: 1 << 18,
  RELATIME: 1 << 21,
  STRICTATIME: 1 << 24,
  LAZYTIME: 1 << 25,
} as const;

/** Attributes of one mount, for fsmount and mount_setattr. */
export const MOUNT_ATTR = {
  RDONLY: 0x1,
  NOSUID: 0x2,
  NODEV: 0x4,
  NOEXEC: 0x8,
  NOATIME: 0x10,
  STRICTATIME: 0x20,
  NODIRATIME: 0x80,
  NOSYMFOLLOW: 0x200000,
} as const;

const FSCONFIG = { SET_FLAG: 0, SET_STRING: 1, CMD_CREATE: 6 } as const;
const AT_RECURSIVE = 0x8000;
const CLOEXEC = 0o2000000;
const MOVE_MOUNT_F_EMPTY_PATH = 4;
/** Links at the target's end are followed, as mount(2) does, so that `/proc/self/fd/N` names what a descriptor holds. */
const MOVE_MOUNT_T_SYMLINKS = 0x10;
/** What waits for the filesystem's server fails (umount2(2)). */
export const MNT_FORCE = 1;
const MNT_DETACH = 2;
const UMOUNT_NOFOLLOW = 8;
/** A longer string is refused by fsconfig. */
export const longestConfigString = 255;

const path = "const void *";
const calls = {
  mount: native(`int mount(${path}, ${path}, ${path}, unsigned long, ${path})`),
  umount2: native(`int umount2(${path}, int)`),
  openTree: nativeSyscall(428, `int dirFd, ${path}, uint32_t flags`),
  moveMount: nativeSyscall(429, `int fromFd, ${path}, int toFd, ${path}, uint32_t flags`),
  fsopen: nativeSyscall(430, `${path}, uint32_t flags`),
  fsconfig: nativeSyscall(431, `int fd, uint32_t command, ${path}, ${path}, int aux`),
  fsmount: nativeSyscall(432, "int fd, uint32_t flags, uint32_t attributes"),
  mountSetattr: nativeSyscall(442, `int dirFd, ${path}, uint32_t flags, const void *attributes, size_t size`),
  read: native("long read(int, void *, size_t)"),
};

const text = (name: Name): Buffer => {
  const bytes = Buffer.from(name);
  if (bytes.includes(0)) throw systemError("mount", name, 22);
  return Buffer.concat([bytes, Buffer.alloc(1)]);
};
const empty = text("");

export type MountCall = {
  readonly source?: Name | undefined;
  readonly target: Name;
  readonly type?: string | undefined;
  readonly flags: number;
  readonly data?: string | undefined;
};

/** mount(2). */
export function mount({ source, target, type, flags, data }: MountCall): void {
  const optional = (value: Name | undefined): Buffer | null => (value === undefined ? null : text(value));
  check(calls.mount(optional(source), text(target), optional(type), flags, optional(data)), "mount", target);
}

const mountCall = nativeAsync(`int mount(${path}, ${path}, ${path}, unsigned long, ${path})`);

/** mount(2) on one of Node's I/O threads: a filesystem that was not unmounted first repeats its journal. */
export async function mountAsync({ source, target, type, flags, data }: MountCall): Promise<void> {
  const optional = (value: Name | undefined): Buffer | null => (value === undefined ? null : text(value));
  const words = [optional(source), text(target), optional(type)] as const;
  const { result, errno } = await mountCall(...words, flags, optional(data));
  if (result < 0) throw systemError("mount", target, errno);
}

/** Takes the topmost mount at `target` away, also when it is in use; false when nothing is mounted there. */
export function detach(target: Name): boolean {
  if (calls.umount2(text(target), MNT_DETACH | UMOUNT_NOFOLLOW) >= 0) return true;
  const error = systemError("umount2", target);
  if (error.code === "EINVAL" || error.code === "ENOENT") return false;
  throw error;
}

const umount2Async = nativeAsync("int umount2(const void *, int)");

/** As `detach`, on one of Node's I/O threads: the kernel first writes out what the filesystem holds. `flags` are more of umount2(2). */
export async function detachAsync(target: string, flags = 0): Promise<boolean> {
  // Not the scratch of this thread: it is used again before the call ends.
  const path = Buffer.from(`${target}\0`);
  const { result, errno } = await umount2Async(path, MNT_DETACH | UMOUNT_NOFOLLOW | flags);
  if (result >= 0) return true;
  const error = systemError("umount2", target, errno);
  if (error.code === "EINVAL" || error.code === "ENOENT") return false;
  throw error;
}

/** Finishes what was just mounted at `target`; a failure takes it away. */
export function orDetach(target: Name, finish: () => void): void {
  try {
    finish();
  } catch (error) {
    detach(target);
    throw error;
  }
}

/** What the kernel has to say about a filesystem context, one line each; reading takes them away. */
export function contextLog(fd: number): string {
  const lines: string[] = [];
  const buffer = Buffer.alloc(4096);
  for (;;) {
    const length = calls.read(fd, buffer, buffer.length);
    if (length <= 0) return lines.join("; ");
    // "e overlay: ...": e, w or i for error, warning or information.
    lines.push(
      buffer
        .toString("utf8", 0, length)
        .trim()
        .replace(/^[ewi] /, ""),
    );
  }
}

/** A filesystem context: parameters are set one by one, then `create` makes the superblock. */
export class FilesystemContext implements Disposable {
  readonly fd: number;

  constructor(type: string) {
    this.fd = check(calls.fsopen(text(type), 1), "fsopen", type);
  }

  #config(command: number, key: string | undefined, value: Name | undefined): void {
    const buffers = [key, value].map((part) => (part === undefined ? null : text(part)));
    const result = calls.fsconfig(this.fd, command, buffers[0] ?? null, buffers[1] ?? null, 0);
    if (result >= 0) return;
    const error = systemError("fsconfig", key, lastErrno());
    const log = contextLog(this.fd);
    if (log !== "") error.message += `: ${log}`;
    throw error;
  }

  setString(key: string, value: Name): void {
    this.#config(FSCONFIG.SET_STRING, key, value);
  }

  /** Names a directory by what `nameOf` makes of its path; an error says the path. */
  setDirectory(key: string, path: string, nameOf: (path: string) => string): void {
    try {
      this.setString(key, nameOf(path));
    } catch (error) {
      if (error instanceof Error && !error.message.includes(path)) error.message += ` (${path})`;
      throw error;
    }
  }

  setFlag(key: string): void {
    this.#config(FSCONFIG.SET_FLAG, key, undefined);
  }

  /** An option as mount(8) writes it: `flag` or `key=value`. */
  setOption(option: string): void {
    const equals = option.indexOf("=");
    if (equals < 0) this.setFlag(option);
    else this.setString(option.slice(0, equals), option.slice(equals + 1));
  }

  create(): void {
    this.#config(FSCONFIG.CMD_CREATE, undefined, undefined);
  }

  /** A mount of the superblock that stands nowhere yet. */
  mount(attributes: number): DetachedMount {
    return new DetachedMount(check(calls.fsmount(this.fd, 1, attributes), "fsmount"));
  }

  [Symbol.dispose](): void {
    closeRead(this.fd);
  }
}

/** A mount that is held by a descriptor; unless it was attached, it goes with it. */
export class DetachedMount implements Disposable {
  readonly fd: number;

  constructor(fd: number) {
    this.fd = fd;
  }

  /** A copy of the mount at `source`, with those below it when `recursive`. */
  static copyOf(source: Name, recursive: boolean): DetachedMount {
    const flags = 1 | CLOEXEC | (recursive ? AT_RECURSIVE : 0);
    return new DetachedMount(check(calls.openTree(AT_FDCWD, text(source), flags), "open_tree", source));
  }

  /** Sets attributes and makes it private, as a whole or not at all. */
  setAttributes(attributes: number, recursive: boolean): void {
    const structure = new BigUint64Array([BigInt(attributes), 0n, BigInt(MS.PRIVATE), 0n]);
    const flags = AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0);
    check(calls.mountSetattr(this.fd, empty, flags, structure, 32), "mount_setattr");
  }

  attach(target: Name): void {
    const flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_SYMLINKS;
    const result = calls.moveMount(this.fd, empty, AT_FDCWD, text(target), flags);
    check(result, "move_mount", target);
  }

  [Symbol.dispose](): void {
    closeRead(this.fd);
  }
}
