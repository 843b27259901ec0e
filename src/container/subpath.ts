/**
 * A directory or file inside a volume as the source of a mount. The path was chosen by a stranger and the volume's content
 * by another, so it is resolved beneath the volume without following any link, and what was found, not its path, is bound
 * to a place of our own, which is the source that the runtime gets.
 */
import { fstat as fstatCallback } from "node:fs";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { promisify } from "node:util";
import { EngineError, systemCode } from "../base/errors.ts";
import { mountAll, unmountAll } from "../host/mount.ts";
import { AT_FDCWD, closeFd, O, openat2, RESOLVE } from "../host/sys.ts";

const fstat = promisify(fstatCallback);

/** Binds `subpath` of `volume` to `place`, which is made. Throws not_found or invalid_argument in Docker's words. */
export async function bindSubpath(volume: string, subpath: string, place: string): Promise<AsyncDisposable> {
  const root = openat2(AT_FDCWD, volume, { flags: O.PATH | O.DIRECTORY });
  let found: number | undefined;
  try {
    found = openBeneath(root, subpath);
    await mkdir(dirname(place), { recursive: true, mode: 0o700 });
    if ((await fstat(found)).isDirectory()) await mkdir(place, { recursive: true });
    else await writeFile(place, "");
    mountAll([{ kind: "bind", source: `/proc/self/fd/${found}`, readonly: false, recursive: true }], place);
  } finally {
    if (found !== undefined) closeFd(found);
    closeFd(root);
  }
  return { [Symbol.asyncDispose]: () => releaseSubpath(place) };
}

export async function releaseSubpath(place: string): Promise<void> {
  unmountAll(place);
  await rm(place, { recursive: false, force: true }).catch(async (error: unknown) => {
    if (systemCode(error) !== "ERR_FS_EISDIR" && systemCode(error) !== "EISDIR") throw error;
    await rm(place, { recursive: true, force: true });
  });
}

/** The descriptor (O_PATH) of what is at `subpath` beneath the directory `root`; no link on the way is followed. */
export function openBeneath(root: number, subpath: string): number {
  try {
    const resolve = RESOLVE.BENEATH | RESOLVE.NO_SYMLINKS | RESOLVE.NO_MAGICLINKS;
    return openat2(root, subpath, { flags: O.PATH, resolve });
  } catch (cause) {
    switch (systemCode(cause)) {
      case "ENOENT":
      case "ENOTDIR":
        throw new EngineError(
          "not_found",
          `cannot access path ${subpath}: no such file or directory in the volume: make it first`,
          { cause },
        );
      case "EXDEV":
      case "ELOOP":
        throw new EngineError("invalid_argument", `path concatenation escapes the base directory: ${subpath}`, {
          cause,
        });
      default:
        throw cause;
    }
  }
}
