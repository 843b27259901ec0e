/**
 * Copy-up, the part that touches files, in a worker. A copy is staged out of sight, then its entries are renamed into
 * the volume, then the volume's root gets the attributes of the image's directory.
 *
 *     <place>/.copy-up.new/      being filled; worth nothing after a crash
 *     <place>/.copy-up.ready/    whole and synced: the marker
 *       entries/                 what has yet to move
 *       root/                    an empty directory with the attributes that the volume's root gets
 *
 * `place` is the directory above the volume where that is the driver's own, else the volume itself. Nobody else works
 * on the volume meanwhile: the store holds its lock.
 */
import { EngineError, systemCode } from "../base/errors.ts";
import { copyAttributes, copyTree } from "../host/copy-tree.ts";
import type { TaskContext } from "../host/pool.ts";
import { removeTreeAt } from "../host/remove-tree.ts";
import {
  AT_FDCWD,
  closeFd,
  mkdirat,
  O,
  openat2,
  RENAME,
  RESOLVE,
  readDirectory,
  renameat2,
  statat,
} from "../host/sys.ts";

export const stagingNames = { new: ".copy-up.new", ready: ".copy-up.ready" } as const;

/** `beside`: stage in the directory above `volume`. */
export type CopyUpPlace = { readonly volume: string; readonly beside: boolean };
export type CopyUpSource = { readonly root: string; readonly path: string };

/** Names that a volume may hold and still be empty: what mkfs makes, and our own. */
const ignored: ReadonlySet<string> = new Set(["lost+found", ...Object.values(stagingNames)]);
/** A filesystem without some kind of attribute cannot keep it: as in Docker, no reason to fail. */
const xattrs = { unsupportedXattrs: "ignore" } as const;
const openHow = { flags: O.RDONLY | O.DIRECTORY | O.NOFOLLOW };

/**
 * Fills `.copy-up.new` from the image's directory. False when there is nothing to do: the image has no such path, or
 * the volume has data. Throws conflict when the image has a file there.
 */
export function stageCopyUpTask(
  argument: CopyUpPlace & { readonly source: CopyUpSource },
  { signal }: TaskContext,
): boolean {
  using open = new Descriptors();
  const source = openSource(open, argument.source);
  if (source === undefined) return false;
  const { volume, place } = openPlace(open, argument);
  if (readDirectory(volume).some((name) => !ignored.has(name.toString("latin1")))) return false;
  removeTreeAt(place, stagingNames.new, signal);
  mkdirat(place, stagingNames.new, 0o700);
  const staging = open.add(openat2(place, stagingNames.new, openHow));
  for (const name of ["entries", "root"]) mkdirat(staging, name, 0o700);
  copyTree(source, open.add(openat2(staging, "entries", openHow)), { signal, ...xattrs });
  copyAttributes([source, ""], [staging, "root"], xattrs);
  return true;
}

/**
 * Moves a staged copy in; `staged` says that `.copy-up.new` is whole and synced. Without it only a move that a crash
 * interrupted is finished, and an unfinished staging thrown away. Returns whether the volume was changed.
 */
export function finishCopyUpTask(
  argument: CopyUpPlace & { readonly staged: boolean },
  { signal }: TaskContext,
): boolean {
  using open = new Descriptors();
  const { volume, place } = openPlace(open, argument);
  if (argument.staged) renameat2(place, stagingNames.new, place, stagingNames.ready);
  else removeTreeAt(place, stagingNames.new, signal);
  const ready = openIfThere(open, place, stagingNames.ready);
  if (ready === undefined) return false;
  const entries = openIfThere(open, ready, "entries");
  if (entries !== undefined) for (const name of readDirectory(entries)) moveIn(entries, volume, name);
  const root = openIfThere(open, ready, "root");
  if (root !== undefined) copyAttributes([root, ""], [volume, ""], xattrs);
  removeTreeAt(place, stagingNames.ready, signal);
  return true;
}

/** What is there already (lost+found) stays, and ours is dropped with the staging directory. */
function moveIn(entries: number, volume: number, name: Buffer): void {
  try {
    renameat2(entries, name, volume, name, RENAME.NOREPLACE);
  } catch (error) {
    if (systemCode(error) === "EEXIST") return;
    // Not every filesystem knows the flag (NFS, older FUSE). Nobody else works in the volume before it is filled.
    if (systemCode(error) !== "EINVAL") throw error;
    if (!isThere(volume, name)) renameat2(entries, name, volume, name);
  }
}

function isThere(directory: number, name: Buffer): boolean {
  try {
    statat(directory, name);
    return true;
  } catch (error) {
    if (systemCode(error) === "ENOENT") return false;
    throw error;
  }
}

function openSource(open: Descriptors, { root, path }: CopyUpSource): number | undefined {
  const rootFd = open.add(openat2(AT_FDCWD, root, openHow));
  try {
    const flags = O.RDONLY | O.DIRECTORY;
    return open.add(openat2(rootFd, path, { flags, resolve: RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS }));
  } catch (error) {
    if (systemCode(error) === "ENOENT") return undefined;
    if (systemCode(error) !== "ENOTDIR") throw error;
    throw new EngineError("conflict", `cannot mount volume over existing file, file exists ${path}`);
  }
}

function openPlace(open: Descriptors, { volume, beside }: CopyUpPlace): { volume: number; place: number } {
  const fd = open.add(openat2(AT_FDCWD, volume, openHow));
  return { volume: fd, place: beside ? open.add(openat2(fd, "..", openHow)) : fd };
}

function openIfThere(open: Descriptors, directory: number, name: string): number | undefined {
  try {
    return open.add(openat2(directory, name, openHow));
  } catch (error) {
    if (systemCode(error) === "ENOENT") return undefined;
    throw error;
  }
}

/** Descriptors that close together. */
class Descriptors implements Disposable {
  readonly #open: number[] = [];

  add(fd: number): number {
    this.#open.push(fd);
    return fd;
  }

  [Symbol.dispose](): void {
    for (const fd of this.#open.splice(0).reverse()) closeFd(fd);
  }
}
