/** Single calls on paths that may never answer, as tasks of a child process: each waits on an I/O thread of that child. */
import { mkdir, stat, statfs } from "node:fs/promises";
import { systemCode } from "../base/errors.ts";
import { detachAsync, MNT_FORCE } from "./mount-calls.ts";

/** Asks whoever serves `path`: the filesystem's own figures are never answered from what the kernel remembers alone. */
export async function lookTask(path: string): Promise<boolean> {
  const found = await stat(path);
  await statfs(path).catch((error: unknown) => {
    if (systemCode(error) !== "ENOSYS") throw error;
  });
  return found.isDirectory();
}

export async function makeDirectoryTask(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o755 });
}

/** Takes every mount on `target` away; `force` ends what waits for its server first. */
export async function detachTask({
  target,
  force,
}: {
  readonly target: string;
  readonly force: boolean;
}): Promise<void> {
  while (await detachAsync(target, force ? MNT_FORCE : 0));
}
