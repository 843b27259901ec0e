/**
 * What is done to the data of volumes in a pool worker: it is made in its form, copied, measured, moved into place. The
 * *home* is the directory that holds it: a volume's folder, or one elsewhere that belongs to the folder.
 *
 *     <home>/_data     the data; an empty directory where it is in `image`
 *     <home>/image     a filesystem of limited size (see host/size-image.ts)
 *     <snapshot>/data  the data of a snapshot, always a tree
 */
import { randomBytes } from "node:crypto";
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  renameSync,
  rmdirSync,
  rmSync,
  statfsSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { mirrorPasses } from "../archive/mirror-task.ts";
import { stepByStep } from "../archive/steps.ts";
import { type TreeSize, treeSize } from "../archive/tree-size.ts";
import { systemCode } from "../base/errors.ts";
import { holdsSubvolumes, setReadOnly, subvolumeInode } from "../host/btrfs.ts";
import { cloneFile } from "../host/copy.ts";
import { copyTreeSteps } from "../host/copy-tree.ts";
import { syncFilesystem } from "../host/durable.ts";
import { mountAll } from "../host/mount.ts";
import { openImage } from "../host/mount-image.ts";
import type { TaskContext } from "../host/pool.ts";
import { firstProject, limitFolders } from "../host/project-limit.ts";
import { projectOf } from "../host/project-quota.ts";
import { imageStep, makeImage } from "../host/size-image.ts";
import { destroySubvolumesIn, limitTask, makeSubvolumeTask, unlimitTask } from "../host/subvolume-task.ts";
import {
  AT_FDCWD,
  AT_REMOVEDIR,
  closeFd,
  fchmodat,
  fchownat,
  O,
  openat2,
  RENAME,
  renameat2,
  statat,
  unlinkat,
  utimensat,
} from "../host/sys.ts";
import { dataName } from "./content.ts";

/** How the data is kept: as it is, as a project with a quota, as a btrfs subvolume, in a filesystem of its own. */
export type DataForm = "plain" | "project" | "subvolume" | "image";

export const imageName = "image";
/** What begins so is a trial that a crash may have left. */
export const trialPrefix = ".trial-";
export const snapshotData = "data";
const btrfsMagic = 2435016766;

/** A home, and the name of the data in it where that is not `_data`: what a program shows as something else. */
export type Home = { readonly home: string; readonly data?: string | undefined };

export type MakeData = Home & {
  readonly form: DataForm;
  /** Bytes; undefined is no limit. */
  readonly size: number | undefined;
  /** The home or snapshot to copy from. */
  readonly source?: string | undefined;
};

/** Puts into an empty open directory what the data begins with. */
type Fill = (to: number) => Promise<void>;

/** Tells how far the copy of its data is (archive/steps.ts). */
const copyOf =
  ({ home, data }: Home, context: TaskContext): Fill =>
  async (to) => {
    using from = openData(home, data);
    const { signal } = context;
    await stepByStep(copyTreeSteps(from.fd, to, { signal, unsupportedXattrs: "fail" }), context);
  };

/** Makes the data in a home whose `_data` is an empty directory. Durable when it resolves. */
export async function makeDataTask(argument: MakeData, context: TaskContext): Promise<void> {
  const { home, form, size, source, data: name = dataName } = argument;
  const data = join(home, name);
  const fill: Fill = source === undefined ? async () => undefined : copyOf({ home: source, data: name }, context);
  if (form === "image") {
    await makeImage(join(home, imageName), { size: size ?? 0, fill: (root) => fillImage(root, fill) });
  } else if (form === "subvolume") {
    rmdirSync(data);
    await copySubvolume(source && dataPath(source), data, fill);
    // A snapshot has the limit of what it was made of.
    if (size === undefined) unlimitTask({ path: data });
    else limitTask({ path: data, bytes: size });
  } else {
    if (form === "project" && size !== undefined) limitFolders([data], size);
    using to = opened(data);
    await fill(to.fd);
  }
  if (source !== undefined) await syncFilesystem(home);
}

async function fillImage(root: number, fill: Fill): Promise<void> {
  // mkfs makes it for repairs, which make it again.
  unlinkat(root, "lost+found", AT_REMOVEDIR);
  fchownat(root, "", 0, 0);
  fchmodat(root, "", 0o755);
  await fill(root);
}

export type CopyData = Home & { readonly target: string };

/** Copies the data of a home, which nobody changes meanwhile, into the new directory `target`. Durable when it resolves. */
export async function copyDataTask({ target, ...home }: CopyData, context: TaskContext): Promise<void> {
  const to = join(target, snapshotData);
  const source = dataPath(home.home, home.data);
  if (isSubvolume(source)) {
    await copySubvolume(source, to, copyOf(home, context));
    setReadOnly(to, true);
  } else {
    mkdirSync(to, { mode: 0o700 });
    using opening = opened(to);
    await copyOf(home, context)(opening.fd);
  }
  await syncFilesystem(target);
}

/** As {@link copyDataTask}, in passes (archive/mirror-task.ts), for data that others may change meanwhile. */
export async function mirrorDataTask({ home, data, target }: CopyData, context: TaskContext): Promise<void> {
  // Of its own: the volume may be unmounted meanwhile.
  using from = openData(home, data);
  const path = join(target, snapshotData);
  if (isSubvolume(dataPath(home, data))) makeSubvolumeTask({ path });
  else mkdirSync(path, { mode: 0o700 });
  using to = opened(path);
  await mirrorPasses(from.fd, to.fd, context);
}

/**
 * Makes the subvolume `target`: a snapshot of the data of `source` where that is a subvolume of the same filesystem and
 * holds no other, which a snapshot would show as an empty directory; else an empty one that `fill` fills.
 */
async function copySubvolume(source: string | undefined, target: string, fill: Fill): Promise<void> {
  if (source !== undefined && snapshotOf(source, target)) return;
  makeSubvolumeTask({ path: target });
  using to = opened(target);
  await fill(to.fd);
}

function holdsOthers(path: string): boolean {
  using data = opened(path);
  return holdsSubvolumes(data.fd);
}

/** Whether the data in a home, a subvolume, holds others. */
export const holdsOthersTask = ({ home }: { readonly home: string }): boolean => holdsOthers(join(home, dataName));

function snapshotOf(source: string, target: string): boolean {
  if (!isSubvolume(source) || holdsOthers(source)) return false;
  try {
    makeSubvolumeTask({ path: target, source });
    return true;
  } catch (error) {
    if (systemCode(error) === "EXDEV") return false;
    throw error;
  }
}

export function sizeTask({ home, data }: Home): TreeSize {
  using opening = openData(home, data);
  return treeSize(`/proc/self/fd/${opening.fd}`);
}

export const onBtrfs = (folder: string): boolean => statfsSync(folder).type === btrfsMagic;

/** False also where nothing is. */
export const isOnBtrfsTask = ({ folder }: { readonly folder: string }): boolean =>
  existsSync(folder) && onBtrfs(folder);

/** Whether subvolumes of the filesystem at `folder` can be limited, found out with one. */
export function limitsSubvolumesTask({ folder }: { readonly folder: string }): boolean {
  if (!onBtrfs(folder)) return false;
  const trial = join(folder, `${trialPrefix}${randomBytes(8).toString("hex")}`);
  const path = join(trial, "subvolume");
  mkdirSync(trial);
  try {
    makeSubvolumeTask({ path });
    limitTask({ path, bytes: 1 << 30 });
    return true;
  } catch {
    return false;
  } finally {
    destroySubvolumesIn(trial);
    rmdirSync(trial);
  }
}

/** Whether a copy of a file at `home` can share its data. */
export function sharesTask({ home }: { readonly home: string }): boolean {
  const paths = ["from", "to"].map((end) => join(home, `${trialPrefix}${randomBytes(8).toString("hex")}-${end}`));
  const [from, to] = paths.map((path) => openSync(path, "wx+", 0o600)) as [number, number];
  try {
    writeSync(from, Buffer.alloc(4096, 1));
    return cloneFile(from, to);
  } finally {
    for (const fd of [from, to]) closeSync(fd);
    for (const path of paths) rmSync(path);
  }
}

/** The form that the data in a home has. */
export function formTask({ home }: { readonly home: string }): DataForm {
  if (existsSync(join(home, imageName))) return "image";
  const data = join(home, dataName);
  if (isSubvolume(data)) return "subvolume";
  return projectNumber(data) >= firstProject ? "project" : "plain";
}

/** 0 where the filesystem has no such thing. */
function projectNumber(data: string): number {
  try {
    return projectOf(data);
  } catch {
    return 0;
  }
}

/** Puts the data of `home` on `target`. */
export function mountDataTask({ home, target }: { readonly home: string; readonly target: string }): void {
  const image = join(home, imageName);
  const step = existsSync(image)
    ? imageStep(image)
    : ({ kind: "bind", source: join(home, dataName), readonly: false } as const);
  mountAll([step], target);
}

/**
 * Lets a home have the data that was made in `staging`; the old data is in `staging` afterwards. An image is what
 * counts where there is one, so each rename leaves either the old data or the new.
 */
export function swapDataTask({ home, staging, data = dataName }: Home & { readonly staging: string }): void {
  const swap = (): void => {
    const [from, to] = [join(staging, data), join(home, data)];
    const { mtimeSec, mtimeNsec } = statat(AT_FDCWD, from);
    renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME.EXCHANGE);
    // xfs counts another parent as a change of the directory.
    const time = BigInt(mtimeSec) * 1_000_000_000n + BigInt(mtimeNsec);
    utimensat(AT_FDCWD, to, time, time);
  };
  const [old, made] = [join(home, imageName), join(staging, imageName)];
  if (existsSync(made)) {
    if (existsSync(old)) renameat2(AT_FDCWD, made, AT_FDCWD, old, RENAME.EXCHANGE);
    else {
      renameSync(made, old);
      swap();
    }
    return;
  }
  swap();
  if (existsSync(old)) renameSync(old, join(staging, "old"));
}

const dataPath = (home: string, data = dataName): string => {
  const kept = join(home, snapshotData);
  return existsSync(kept) ? kept : join(home, data);
};

function openData(home: string, data = dataName): Disposable & { readonly fd: number } {
  const image = join(home, imageName);
  if (!existsSync(image)) return opened(dataPath(home, data));
  using root = openImage(imageStep(image));
  // It can be read, and keeps the filesystem.
  return opened(`/proc/self/fd/${root.fd}/.`);
}

/** An inode number alone says nothing on other filesystems. */
function isSubvolume(path: string): boolean {
  return statat(AT_FDCWD, path).ino === subvolumeInode && onBtrfs(path);
}

function opened(path: string): Disposable & { readonly fd: number } {
  const fd = openat2(AT_FDCWD, path, { flags: O.RDONLY | O.DIRECTORY | O.NOFOLLOW });
  return { fd, [Symbol.dispose]: () => closeFd(fd) };
}
