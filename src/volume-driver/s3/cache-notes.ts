/**
 * The notes that rclone keeps beside the files of its cache (`vfsMeta/<remote>/<path>` beside `vfs/<remote>/<path>`,
 * JSON, as of rclone 1.60 to 1.7x), read and mended by tasks of a worker while or before rclone runs.
 */
import { readdirSync, readFileSync, renameSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { systemCode } from "../../base/errors.ts";

/**
 * Counts what rclone has in its cache and the server has not: a note says that its file is dirty from the first write
 * until it has been sent. `cache` is rclone's cache directory, there or not. A note that cannot be read counts.
 */
export function unsavedTask(cache: string): number {
  return notesOf(cache).filter((path) => {
    const note = readNote(cache, path);
    return note !== undefined && (note === "unreadable" || note.Dirty !== false);
  }).length;
}

/**
 * Before rclone starts again: of a file that was still open, or just being closed, when rclone was killed, the note says how
 * it was at its first write; rclone would take what was written since for absent. Where the note says that the cache had all
 * of the file then (it was new, emptied, or whole), all that is there now is the file, and the note gets to say so. Of a file
 * that was fetched in parts, what was fetched and what was written cannot be told apart: that is left to rclone.
 */
export function mendNotesTask(cache: string): void {
  for (const path of notesOf(cache)) {
    const note = readNote(cache, path);
    if (note === undefined || note === "unreadable" || note.Dirty !== true || !hasAll(note)) continue;
    const file = statSync(join(cache, "vfs", path), { throwIfNoEntry: false });
    if (file?.isFile() !== true || file.size === 0) continue;
    const fresh = join(cache, "mended-note");
    const mended = { ...note, Size: file.size, Rs: [{ Pos: 0, Size: file.size }] };
    writeFileSync(fresh, JSON.stringify(mended), { mode: 0o600 });
    renameSync(fresh, join(cache, "vfsMeta", path));
  }
}

/** Without a fingerprint the server has nothing of the file. Ranges that touch are one in a note. */
function hasAll({ Fingerprint, Size, Rs }: Note): boolean {
  if (Fingerprint === "" || Size === 0) return true;
  const range: unknown = Array.isArray(Rs) && Rs.length === 1 ? Rs[0] : undefined;
  return isRange(range) && range.Pos === 0 && Number(range.Size) >= Number(Size);
}

const isRange = (value: unknown): value is { readonly Pos: unknown; readonly Size: unknown } =>
  typeof value === "object" && value !== null && "Pos" in value && "Size" in value;

type Note = Readonly<Partial<Record<"Dirty" | "Fingerprint" | "Size" | "Rs", unknown>>>;

/** Undefined when it has gone meanwhile. One that is just being written is unreadable. */
function readNote(cache: string, path: string): Note | "unreadable" | undefined {
  try {
    const note: unknown = JSON.parse(readFileSync(join(cache, "vfsMeta", path), "utf8"));
    return typeof note === "object" && note !== null ? note : "unreadable";
  } catch (error) {
    return systemCode(error) === "ENOENT" ? undefined : "unreadable";
  }
}

/** Paths below `vfsMeta`. */
function notesOf(cache: string): readonly string[] {
  const root = join(cache, "vfsMeta");
  try {
    const entries = readdirSync(root, { recursive: true, withFileTypes: true });
    return entries.flatMap((entry) =>
      entry.isFile() ? [join(entry.parentPath, entry.name).slice(root.length + 1)] : [],
    );
  } catch (error) {
    if (systemCode(error) === "ENOENT") return [];
    throw error;
  }
}
