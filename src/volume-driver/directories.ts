/** Directories of volumes, with exactly the mode that they are to have. */
import { chmod, lstat, mkdir } from "node:fs/promises";
import { systemCode } from "../base/errors.ts";

/** The mode is exactly `mode`, whatever the umask; an existing directory is set to it as well. */
export async function makeDirectory(path: string, mode: number): Promise<void> {
  await mkdir(path, { mode }).catch((error: unknown) => {
    if (systemCode(error) !== "EEXIST") throw error;
  });
  await chmod(path, mode);
}

export async function isDirectory(path: string): Promise<boolean> {
  const found = await lstat(path).catch((error: unknown) => {
    if (systemCode(error) === "ENOENT" || systemCode(error) === "ENOTDIR") return undefined;
    throw error;
  });
  return found?.isDirectory() === true;
}
