/** What stands in a folder that may not be there yet. */
import { readdir } from "node:fs/promises";
import { systemCode } from "../base/errors.ts";

/** Sorted names in a folder; none where there is no folder. */
export async function namesIn(folder: string): Promise<readonly string[]> {
  try {
    return (await readdir(folder)).sort();
  } catch (error) {
    if (systemCode(error) === "ENOENT") return [];
    throw error;
  }
}
