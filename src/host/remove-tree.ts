/**
 * Removes directory trees that strangers filled: of any depth and width, with bytes for names, through no symlink.
 * Subdirectories that are not empty are first moved up into the top one, so that neither the call stack, nor the
 * number of descriptors, nor PATH_MAX is a limit. Synchronous: for workers.
 */
import { randomBytes } from "node:crypto";
import { systemCode } from "../base/errors.ts";
import type { Name } from "./libc.ts";
import { AT_REMOVEDIR, closeRead, O, openat2, RESOLVE, readDirectory, renameat2, unlinkat } from "./sys.ts";

/** What is mounted inside belongs to somebody else: nothing behind a mount is ever removed. */
const resolve = RESOLVE.BENEATH | RESOLVE.NO_SYMLINKS | RESOLVE.NO_XDEV;
const directoryOnly = { flags: O.RDONLY | O.DIRECTORY | O.NOFOLLOW, resolve };

/** Removes `name` in the open directory `parent`, whatever it is. Missing: nothing. `name` is one component. */
export function removeTreeAt(parent: number, name: Name, signal?: AbortSignal): void {
  if (removeSimple(parent, name)) return;
  const directory = openat2(parent, name, directoryOnly);
  try {
    emptyDirectory(directory, signal);
  } finally {
    closeRead(directory);
  }
  unlinkat(parent, name, AT_REMOVEDIR);
}

/** Removes everything in an open directory, not the directory itself. */
export function emptyDirectory(top: number, signal?: AbortSignal): void {
  for (let names = readDirectory(top); names.length > 0; names = readDirectory(top))
    for (const name of names) {
      signal?.throwIfAborted();
      if (removeSimple(top, name)) continue;
      const directory = openat2(top, name, directoryOnly);
      try {
        flattenInto(top, directory, signal);
      } finally {
        closeRead(directory);
      }
      unlinkat(top, name, AT_REMOVEDIR);
    }
}

function flattenInto(top: number, directory: number, signal: AbortSignal | undefined): void {
  for (const name of readDirectory(directory)) {
    signal?.throwIfAborted();
    if (!removeSimple(directory, name)) renameat2(directory, name, top, `.${randomBytes(12).toString("hex")}`);
  }
}

/** Removes anything but a directory that has entries; false for that. */
function removeSimple(directory: number, name: Name): boolean {
  try {
    unlinkat(directory, name);
    return true;
  } catch (error) {
    if (systemCode(error) === "ENOENT") return true;
    if (systemCode(error) !== "EISDIR" && systemCode(error) !== "EPERM") throw error;
  }
  try {
    unlinkat(directory, name, AT_REMOVEDIR);
    return true;
  } catch (error) {
    if (systemCode(error) === "ENOTEMPTY" || systemCode(error) === "EEXIST") return false;
    throw error;
  }
}
