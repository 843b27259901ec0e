/**
 * Copy-up, the part that touches files, in a worker or a child. A copy is staged out of sight, then its entries are
 * renamed into the volume, then the volume's root gets the attributes of the image's directory.
 *
 *     <place>/.copy-up.new/      being filled; worth nothing after a crash
 *     <place>/.copy-up.ready/    whole and synced: the marker
 *       entries/                 what has yet to move
 *       root/                    an empty directory with the attributes that the volume's root gets
 *       owner-<owner>/           whose it is
 *     <place>/.copy-up.done/     on its way out
 *
 * `place` is the directory above the volume where that is the driver's own, else the volume itself, which engines of
 * several machines may share: there `new` and `done` carry the owner's name, `ready` is taken by a rename that only one
 * wins, and whoever finds another's waits for it, or finishes it when nothing moves any more.
 */
import { setTimeout as sleep } from "node:timers/promises";
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

/** `beside`: stage in the directory above `volume`. `owner` is this engine, among all that may share the volume. */
export type CopyUpPlace = { readonly volume: string; readonly beside: boolean; readonly owner: string };
export type CopyUpSource = { readonly root: string; readonly path: string };

const prefix = ".copy-up.";
export const readyName = `${prefix}ready`;

/** What an engine stages under. */
export function stagingNames({ beside, owner }: CopyUpPlace): { readonly fresh: string; readonly done: string } {
  const own = beside ? prefix : `${prefix}${owner}.`;
  return { fresh: `${own}new`, done: `${own}done` };
}

/** Milliseconds after which another engine's move that stands still counts as left. */
const left = 5000;
const pollMs = 100;

/** Names that a volume may hold and still be empty: what mkfs makes, and what engines stage. */
const isIgnored = (name: string): boolean => name === "lost+found" || name.startsWith(prefix);
const isEmpty = (volume: number): boolean => readDirectory(volume).every((name) => isIgnored(name.toString("latin1")));

/** A filesystem without some kind of attribute cannot keep it: as in Docker, no reason to fail. */
const xattrs = { unsupportedXattrs: "ignore" } as const;
const openHow = { flags: O.RDONLY | O.DIRECTORY | O.NOFOLLOW };

/**
 * Fills a fresh staging directory from the image's directory. False when there is nothing to do: the image has no such
 * path, or the volume has data. Throws conflict when the image has a file there.
 */
export function stageCopyUpTask(
  argument: CopyUpPlace & { readonly source: CopyUpSource },
  { signal }: TaskContext,
): boolean {
  using open = new Descriptors();
  const source = openSource(open, argument.source);
  if (source === undefined) return false;
  const { volume, place } = openPlace(open, argument);
  if (!isEmpty(volume)) return false;
  const { fresh } = stagingNames(argument);
  removeTreeAt(place, fresh, signal);
  mkdirat(place, fresh, 0o700);
  const staging = open.add(openat2(place, fresh, openHow));
  for (const name of ["entries", "root", `owner-${argument.owner}`]) mkdirat(staging, name, 0o700);
  copyTree(source, open.add(openat2(staging, "entries", openHow)), { signal, ...xattrs });
  copyAttributes([source, ""], [staging, "root"], xattrs);
  return true;
}

/**
 * Moves a staged copy in; `staged` says that it is whole and synced. Without it only a move that a crash interrupted is
 * finished, and an unfinished staging thrown away. Returns whether the volume was changed.
 */
export async function finishCopyUpTask(
  argument: CopyUpPlace & { readonly staged: boolean },
  { signal }: TaskContext,
): Promise<boolean> {
  using open = new Descriptors();
  const { volume, place } = openPlace(open, argument);
  const { fresh, done } = stagingNames(argument);
  const own = { volume, place, done, owner: argument.owner };
  let changed = false;
  if (argument.staged) while (!claim(place, fresh)) changed = (await moveReady(own, signal)) || changed;
  else removeTreeAt(place, fresh, signal);
  removeTreeAt(place, done, signal);
  // Somebody else filled it while ours was made: theirs is the content, ours goes.
  if (argument.staged && !isEmpty(volume)) {
    release(own, signal);
    return changed;
  }
  return (await moveReady(own, signal)) || changed;
}

/** One of several engines that staged gets the marker; it has entries, so nothing can be renamed over it. */
function claim(place: number, fresh: string): boolean {
  try {
    renameat2(place, fresh, place, readyName);
    return true;
  } catch (error) {
    // Servers word it in their ways.
    if (!isThere(place, readyName)) throw error;
    return false;
  }
}

type Own = { readonly volume: number; readonly place: number; readonly done: string; readonly owner: string };

/** What is ready is moved in, when it is ours, or left by its owner. False when nothing is. */
async function moveReady(own: Own, signal: AbortSignal): Promise<boolean> {
  using open = new Descriptors();
  const ready = openIfThere(open, own.place, readyName);
  if (ready === undefined) return false;
  if (!isThere(ready, `owner-${own.owner}`) && !(await isLeft(own.place, signal))) return true;
  const entries = openIfThere(open, ready, "entries");
  if (entries !== undefined) for (const name of readDirectory(entries)) moveIn(entries, own.volume, name);
  const root = openIfThere(open, ready, "root");
  if (root !== undefined) copyAttributes([root, ""], [own.volume, ""], xattrs);
  release(own, signal);
  return true;
}

/** Waits for another engine's move: false when it ended, true when nothing has moved for some time. */
async function isLeft(place: number, signal: AbortSignal): Promise<boolean> {
  let before = "";
  for (let still = 0; still < left; still += pollMs) {
    using open = new Descriptors();
    const ready = openIfThere(open, place, readyName);
    if (ready === undefined) return false;
    const entries = openIfThere(open, ready, "entries");
    const state = `${statat(ready, "").ino} ${entries === undefined ? -1 : readDirectory(entries).length}`;
    if (state !== before) still = 0;
    before = state;
    await sleep(pollMs, undefined, { signal });
  }
  return true;
}

/** The marker goes at once and whole: an empty one could be renamed over while it is taken apart. */
function release({ place, done }: Own, signal: AbortSignal): void {
  try {
    renameat2(place, readyName, place, done);
  } catch (error) {
    // Another engine that took it for left was quicker.
    if (systemCode(error) !== "ENOENT") throw error;
  }
  removeTreeAt(place, done, signal);
}

/** What is there already (lost+found) stays, and ours is dropped with the staging directory. */
function moveIn(entries: number, volume: number, name: Buffer): void {
  try {
    renameat2(entries, name, volume, name, RENAME.NOREPLACE);
  } catch (error) {
    // There already, or moved by another engine.
    if (systemCode(error) === "EEXIST" || systemCode(error) === "ENOENT") return;
    // Not every filesystem knows the flag (NFS, older FUSE). Nobody else works in the volume before it is filled.
    if (systemCode(error) !== "EINVAL") throw error;
    if (!isThere(volume, name)) moveOver(entries, volume, name);
  }
}

function moveOver(entries: number, volume: number, name: Buffer): void {
  try {
    renameat2(entries, name, volume, name);
  } catch (error) {
    if (systemCode(error) !== "ENOENT") throw error;
  }
}

function isThere(directory: number, name: Buffer | string): boolean {
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
