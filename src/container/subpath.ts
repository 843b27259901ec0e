/**
 * A directory or file inside a volume as the source of a mount. The path was chosen by a stranger and the volume's content
 * by another, so it is resolved beneath the volume without following any link, and what was found, not its path, is bound
 * to a place of our own, which is the source that the runtime gets.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { rm, rmdir } from "node:fs/promises";
import { dirname } from "node:path";
import { EngineError, systemCode } from "../base/errors.ts";
import { isMountPoint, mountAll, unmountAll } from "../host/mount.ts";
import type { Remote } from "../host/remote.ts";
import { remoteMountOf } from "../host/remote-path.ts";
import { AT_FDCWD, closeFd, O, openat2, RESOLVE, statat } from "../host/sys.ts";

/** Where {@link bindSubpathTask} is, for a child process. */
export const subpathTasks = new URL(import.meta.url);

export type SubpathArgument = { readonly volume: string; readonly subpath: string; readonly place: string };

/** Binds `subpath` of `volume` to `place`, which is made. Throws not_found or invalid_argument in Docker's words. */
export function bindSubpathTask({ volume, subpath, place }: SubpathArgument): void {
  const root = openat2(AT_FDCWD, volume, { flags: O.PATH | O.DIRECTORY });
  let found: number | undefined;
  try {
    found = openBeneath(root, subpath);
    mkdirSync(dirname(place), { recursive: true, mode: 0o700 });
    if ((statat(found, "").mode & 0o170000) === 0o040000) mkdirSync(place, { recursive: true });
    else writeFileSync(place, "");
    mountAll([{ kind: "bind", source: `/proc/self/fd/${found}`, readonly: false, recursive: true }], place);
  } finally {
    if (found !== undefined) closeFd(found);
    closeFd(root);
  }
}

/** Takes the place away, and nothing that is still mounted there. */
export async function releaseSubpath(place: string, remote: Remote): Promise<void> {
  if (remoteMountOf(place) === undefined) unmountAll(place);
  else await remote.calls.detach(place, remote.patience(`what is bound to ${place}`));
  if (isMountPoint(place)) throw new EngineError("internal", `${place} is still mounted`);
  await rm(place, { force: true }).catch(async (error: unknown) => {
    if (systemCode(error) !== "ERR_FS_EISDIR" && systemCode(error) !== "EISDIR") throw error;
    await rmdir(place);
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
