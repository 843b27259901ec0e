/**
 * Counts what rclone has in its cache and the server has not, in a worker: beside every cached file rclone keeps a note
 * (vfsMeta/..., JSON) that says whether it is dirty, from its first write until it has been sent.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { systemCode } from "../../base/errors.ts";

/** `cache` is rclone's cache directory, there or not. A note that cannot be read counts. */
export function unsavedTask(cache: string): number {
  try {
    const notes = readdirSync(join(cache, "vfsMeta"), { recursive: true, withFileTypes: true });
    return notes.filter((entry) => entry.isFile() && isDirty(join(entry.parentPath, entry.name))).length;
  } catch (error) {
    if (systemCode(error) === "ENOENT") return 0;
    throw error;
  }
}

function isDirty(path: string): boolean {
  try {
    const note: unknown = JSON.parse(readFileSync(path, "utf8"));
    return typeof note !== "object" || note === null || !("Dirty" in note) || note.Dirty !== false;
  } catch (error) {
    // Gone meanwhile; or it is being written.
    return systemCode(error) !== "ENOENT";
  }
}
