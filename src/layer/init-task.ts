/**
 * Filling an init layer, in a pool worker: what the runtime and the engine would otherwise make in each container's
 * writable layer, made once over the image. Only what is missing is made; a directory that gets a new entry keeps its
 * times, and what the image has there is left as it is, whatever it is.
 *
 * The image is hostile: each path is resolved inside its root by the kernel (openat2, RESOLVE_IN_ROOT), so a symlink
 * in it leads nowhere else, and a path that cannot be made (a file where a directory should be) is skipped: it is then
 * the container's start that fails, naming it.
 */
import { systemCode } from "../base/errors.ts";
import {
  AT_FDCWD,
  closeRead,
  type FileStat,
  fchmodat,
  fchownat,
  mkdirat,
  mknodat,
  O,
  openat2,
  RESOLVE,
  statat,
  symlinkat,
  utimensat,
} from "../host/sys.ts";

type Entry =
  | { readonly path: string; readonly kind: "directory" | "file" }
  | { readonly path: string; readonly link: string };

/** Parents stand before what is in them (moby layer/initlayer, and the mount points of runc's default mounts). */
const entries: readonly Entry[] = [
  { path: "proc", kind: "directory" },
  { path: "sys", kind: "directory" },
  { path: "dev", kind: "directory" },
  { path: "dev/pts", kind: "directory" },
  { path: "dev/shm", kind: "directory" },
  { path: "dev/console", kind: "file" },
  { path: "etc", kind: "directory" },
  { path: "etc/hosts", kind: "file" },
  { path: "etc/hostname", kind: "file" },
  { path: "etc/resolv.conf", kind: "file" },
  { path: "etc/mtab", link: "/proc/mounts" },
  { path: ".dockerenv", kind: "file" },
];

const regularFile = 0o100000;
/** Reading and searching. */
const everybody = 0o555;

/** Makes what is missing in the mounted tree `root`. */
export function fillInitLayerTask({ root }: { readonly root: string }): void {
  const rootFd = openat2(AT_FDCWD, root, { flags: O.RDONLY | O.DIRECTORY | O.NOFOLLOW });
  try {
    for (const entry of entries) makeMissing(rootFd, entry);
    letIn(rootFd);
  } finally {
    closeRead(rootFd);
  }
}

/**
 * Every user of a container can reach what is in its root, whatever the image's tar says of that: one of a folder that
 * mktemp made shuts out all but root, and dockerd's containers on overlay2 do not see that either.
 */
function letIn(rootFd: number): void {
  const { mode } = statat(rootFd, "");
  if ((mode & everybody) !== everybody) fchmodat(rootFd, "", (mode & 0o7777) | everybody);
}

function makeMissing(rootFd: number, entry: Entry): void {
  const slash = entry.path.lastIndexOf("/");
  const parent = openParent(rootFd, slash < 0 ? "." : entry.path.slice(0, slash));
  if (parent === undefined) return;
  try {
    const name = entry.path.slice(slash + 1);
    if (exists(parent, name)) return;
    const before = statat(parent, "");
    make(parent, name, entry);
    restoreTimes(parent, before);
  } finally {
    closeRead(parent);
  }
}

/** The directory, through symlinks inside the root; undefined where none can be reached. */
function openParent(rootFd: number, path: string): number | undefined {
  try {
    return openat2(rootFd, path, {
      flags: O.RDONLY | O.DIRECTORY,
      resolve: RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS,
    });
  } catch (error) {
    if (["ENOENT", "ENOTDIR", "ELOOP"].includes(systemCode(error) ?? "")) return undefined;
    throw error;
  }
}

function exists(parent: number, name: string): boolean {
  try {
    statat(parent, name);
    return true;
  } catch (error) {
    if (systemCode(error) === "ENOENT") return false;
    throw error;
  }
}

function make(parent: number, name: string, entry: Entry): void {
  if ("link" in entry) {
    symlinkat(entry.link, parent, name);
    return;
  }
  if (entry.kind === "directory") mkdirat(parent, name, 0o755);
  else mknodat(parent, name, regularFile | 0o755, 0, 0);
  fchownat(parent, name, 0, 0);
  fchmodat(parent, name, 0o755);
}

function restoreTimes(parent: number, { mtimeSec, mtimeNsec }: FileStat): void {
  utimensat(parent, "", undefined, BigInt(mtimeSec) * 1_000_000_000n + BigInt(mtimeNsec));
}
