/**
 * Reads the changes of an overlayfs upper directory from below, so that the cost grows with what changed and not with
 * the image (kernel, Documentation/filesystems/overlayfs.rst): a whiteout is the character device 0:0, or an empty file
 * with the attribute `overlay.whiteout` in a directory marked opaque="x"; opaque="y" hides all that the layers below
 * have in a directory. Files that only stand here because they were opened for writing are no change.
 *
 * `lowerView` is a read-only view of everything below. Uppers made with metacopy or redirect_dir hold no contents of
 * their own and are refused. The upper may be in use; then the answer is as good as the moment. For workers.
 */
import { constants } from "node:fs";
import type { Change } from "../base/change.ts";
import { EngineError } from "../base/errors.ts";
import { AT_FDCWD, closeRead, type FileStat, getXattr, O, openat2 } from "../host/sys.ts";
import { overlayMarkPrefix } from "../host/user-namespace.ts";
import { type ByteString, nameOf, quoted } from "./bytes.ts";
import { fileType, isDirectory, isFile, type Location } from "./root-tree.ts";
import type { TreeCopy } from "./tree-copy.ts";
import { type Dialect, type Difference, type DirectoryMarks, TreeDiff } from "./tree-diff.ts";
import { listChanges, type TarTimes, writeLayer } from "./write-difference.ts";
import { plainXattrs, upperXattrs, type XattrNames } from "./write-tree.ts";

/** The changes, sorted by path. Both are host paths of our own choice. */
export function overlayChanges(upper: string, lowerView: string): Change[] {
  return withBoth(upper, lowerView, (fresh, old) => listChanges(diffOf(fresh, old)));
}

export type OverlayTarOptions = TarTimes & { readonly copy?: TreeCopy };

/** The changes as a layer tar. Nothing changed: an empty archive. */
export async function overlayChangesTar(
  upper: string,
  lowerView: string,
  ...[write, options = {}]: [write: (chunk: Uint8Array) => Promise<void>, options?: OverlayTarOptions]
): Promise<void> {
  await withBoth(upper, lowerView, (fresh, old) =>
    writeLayer(new TreeDiff(readOverlay, { links: true }).unread(fresh, old), {
      names: readNames,
      write,
      ...options,
    }),
  );
}

const diffOf = (fresh: number, old: number): Generator<Difference> => new TreeDiff(overlay).differences(fresh, old);

/** Opens both trees for the time of `use`. */
export function withBoth<T>(fresh: string, old: string, use: (fresh: number, old: number) => T): T {
  const open = [openTop(fresh)];
  const close = (): void => {
    for (const fd of open.splice(0)) closeRead(fd);
  };
  try {
    open.push(openTop(old));
    const result = use(open[0] ?? -1, open[1] ?? -1);
    if (result instanceof Promise) return result.finally(close) as T;
    close();
    return result;
  } catch (error) {
    close();
    throw error;
  }
}

const openTop = (path: string): number => openat2(AT_FDCWD, path, { flags: O.RDONLY | O.DIRECTORY });

const overlay: Dialect = {
  merged: true,
  newXattrs: upperXattrs,
  oldXattrs: plainXattrs,
  compareContents: true,
  marks: marksOf,
  isWhiteout,
  check,
};

const overlayXattr = (at: Location, name: string): Buffer | undefined =>
  getXattr(at.fd, nameOf(at.name), overlayMarkPrefix() + name);

function marksOf(at: Location): DirectoryMarks {
  const value = overlayXattr(at, "opaque")?.toString();
  return { opaque: value === "y", xattrWhiteouts: value === "x" };
}

function isWhiteout(at: Location, stat: FileStat, directory: DirectoryMarks): boolean {
  if (fileType(stat.mode) === constants.S_IFCHR) return stat.rdevMajor === 0 && stat.rdevMinor === 0;
  if (!directory.xattrWhiteouts || !isFile(stat.mode) || stat.size > 0) return false;
  return overlayXattr(at, "whiteout") !== undefined;
}

/** Blocks say nothing of whether a file has its own data: long attributes take some, small files may have none. */
function check(at: Location, stat: FileStat, path: ByteString): void {
  checkDirectory(at, stat, path);
  if (isFile(stat.mode) && stat.size > 0 && overlayXattr(at, "metacopy") !== undefined) refuse(path, "metacopy");
}

function checkDirectory(at: Location, stat: FileStat, path: ByteString): void {
  if (isDirectory(stat.mode) && overlayXattr(at, "redirect") !== undefined) refuse(path, "redirect_dir");
}

/** As `overlay`, where every file that differs is opened and asked for its attributes anyway: one question less for each. */
const readOverlay: Dialect = { ...overlay, check: checkDirectory };

const readNames: XattrNames = (name, path) => {
  if (name === `${overlayMarkPrefix()}metacopy`) refuse(path, "metacopy");
  return upperXattrs(name, path);
};

function refuse(path: ByteString, what: string): never {
  throw new EngineError(
    "unsupported",
    `/${quoted(path).slice(1, -1)} was written by overlayfs with ${what}; mount the layer with ${what}=off and copy the file once`,
  );
}
