/**
 * Writables with a size limit, for drivers that keep what changes. With project quotas their `diff` and `work` are a project; without, both are in a
 * filesystem of that size (see limiter.ts). Such a writable is durable when it is made, because `mounts`, which makes
 * again what a power cut took, would make it without its limit.
 */
import { rmdir } from "node:fs/promises";
import { join } from "node:path";
import { syncDirectory } from "../host/durable.ts";
import type { Limiter } from "../host/limiter.ts";
import { limitFolders } from "../host/project-limit.ts";
import { makeImage } from "../host/size-image.ts";
import { fchmodat, mkdirat } from "../host/sys.ts";
import { type DiffFolders, imageName } from "./diff-folders.ts";
import type { LayerRef } from "./driver.ts";
import { copyRootAttributes, type OwnMarks } from "./root-attributes.ts";

export type LimitedOptions = {
  /** Bytes that its changes may take. */
  readonly size: number;
  readonly limiter: Limiter;
  readonly isMark: OwnMarks;
};

/** Makes a writable that can take so much. On failure nothing stays. */
export async function createLimited(folders: DiffFolders, layer: LayerRef, options: LimitedOptions): Promise<void> {
  await folders.createWritable(layer, async (path) => {
    const parts = [join(path, "diff"), join(path, "work")] as const;
    if (options.limiter.kind === "project") limitFolders(parts, options.size);
    else await moveIntoImage(path, options);
    await syncDirectory(path);
  });
  await syncDirectory(folders.home);
}

/** Puts the empty `diff` and `work` of `path` into a filesystem beside them. */
async function moveIntoImage(path: string, { size, isMark }: LimitedOptions): Promise<void> {
  const fill = (root: number): void => {
    for (const [name, mode] of [
      ["work", 0o700],
      ["diff", 0o755],
    ] as const) {
      mkdirat(root, name, mode);
      fchmodat(root, name, mode);
    }
    copyRootAttributes(join(path, "diff"), `/proc/self/fd/${root}/diff`, isMark);
  };
  await makeImage(join(path, imageName), { size, fill });
  await rmdir(join(path, "diff"));
  await rmdir(join(path, "work"));
}
