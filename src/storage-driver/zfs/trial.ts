/** Whether ZFS works for a home, found out by using it. Leaves no dataset, no mount and no file. */
import { mkdtemp, rmdir, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { errorMessage, isError } from "../../base/errors.ts";
import { mountAll, unmountAll } from "../../host/mount.ts";
import { AT_FDCWD, setXattr } from "../../host/sys.ts";
import { run } from "../../host/zfs-command.ts";
import { Datasets } from "./datasets.ts";
import { parentDataset } from "./parent.ts";

/** One sentence that says why not, or undefined. */
export async function tryZfs(
  home: string,
  options: Readonly<Record<string, string>> = {},
): Promise<string | undefined> {
  try {
    const parent = await parentDataset(home, options);
    await run("zpool", "list", "-H", "-o", "name");
    await run("zfs", "list", "-H", "-o", "name", parent);
    return await tryDataset(new Datasets(home, parent));
  } catch (error) {
    if (isError(error, "unsupported") && errorMessage(error).includes("the zfs driver needs"))
      return errorMessage(error);
    return `ZFS does not work here: ${errorMessage(error)}`;
  }
}

async function tryDataset(datasets: Datasets): Promise<string | undefined> {
  const target = await mkdtemp(join(tmpdir(), "zfs-trial-"));
  try {
    await using trial = await datasets.makeTrial(target);
    try {
      mountAll(trial.mounts, target);
      return await useTree(join(target, "file"));
    } finally {
      if (trial.mounts.length > 0) unmountAll(target);
    }
  } finally {
    await rmdir(target).catch(() => undefined);
  }
}

async function useTree(file: string): Promise<string | undefined> {
  await writeFile(file, "");
  try {
    setXattr(AT_FDCWD, file, "trusted.trial", Buffer.from("x"));
    return undefined;
  } catch (error) {
    return `its files keep no extended attributes (${errorMessage(error)}); zfs-fuse needs --enable-xattr, OpenZFS the property xattr`;
  }
}
