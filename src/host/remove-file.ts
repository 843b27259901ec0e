/** Removing a file that may be gone already, with one call where `fs.rm` makes two. */
import { unlink } from "node:fs/promises";
import { systemCode } from "../base/errors.ts";

export async function removeFile(path: string): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if (systemCode(error) !== "ENOENT") throw error;
  }
}
