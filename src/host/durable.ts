/**
 * What must survive a power cut. A file is durable when its data, and then the directory that names it, were synced;
 * a whole filesystem is synced at once where a layer of thousands of files is made.
 *
 * Everything runs off the event loop, on Node's I/O threads.
 */
import { randomBytes } from "node:crypto";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { nativeAsync, systemError } from "./libc.ts";

const syncfs = nativeAsync("int syncfs(int)");

/** Writes everything of the filesystem that holds `path` to its disk (syncfs(2)); throws if a write to it was lost. */
export async function syncFilesystem(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    const { result, errno } = await syncfs(handle.fd);
    if (result < 0) throw systemError("syncfs", path, errno);
  } finally {
    await handle.close();
  }
}

/** Makes the names in a directory durable: what was created, renamed or removed there. */
export async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/**
 * Makes or replaces a file: after a crash it has its old content or all of the new, and the new once this resolved.
 * On failure nothing stays but the old file. `mode` is 0o600 unless given, whatever the umask.
 */
export async function writeFileDurably(path: string, data: string | Uint8Array, mode = 0o600): Promise<void> {
  const temporary = `${path}.${randomBytes(6).toString("hex")}.tmp`;
  try {
    await fill(await open(temporary, "wx", mode), data, mode);
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await syncDirectory(dirname(path));
}

async function fill(handle: FileHandle, data: string | Uint8Array, mode: number): Promise<void> {
  try {
    await handle.chmod(mode);
    await handle.writeFile(data);
    await handle.sync();
  } finally {
    await handle.close();
  }
}
