/**
 * Writables of vfs with a size limit: a tree that is a project of its own where the filesystem has project quotas, else
 * a filesystem of that size whose root is the tree. The whole tree counts, as it is all the container's own.
 */
import { chmod, mkdir } from "node:fs/promises";
import { EngineError, systemCode } from "../../base/errors.ts";
import { humanSize } from "../../base/size.ts";
import type { Limiter } from "../../host/limiter.ts";
import type { Pool } from "../../host/pool.ts";
import { limitFolders } from "../../host/project-limit.ts";
import { makeImage } from "../../host/size-image.ts";
import { AT_REMOVEDIR, unlinkat } from "../../host/sys.ts";
import { checkedSize, type SizeRules } from "../size-limit.ts";
import { fillTree } from "../walk.ts";

/** What Docker says where a limit cannot be kept. */
export const sizeRefusal = "Filesystem does not support, or has not enabled quotas";

/** The daemon's options: Docker's `size`. Throws invalid_argument for one that is unknown or no size. */
export function parseOptions(options: Readonly<Record<string, string>>): SizeRules {
  let rules: SizeRules = { driver: "vfs" };
  for (const [key, value] of Object.entries(options)) {
    if (key.toLowerCase() !== "size")
      throw new EngineError("invalid_argument", `vfs: unknown option ${key}; known is size`);
    rules = { ...rules, standard: checkedSize(value, rules) };
  }
  return rules;
}

export type LimitedTree = {
  /** Where it is made; nothing is there. */
  readonly path: string;
  /** The tree to begin with; without one an empty root. */
  readonly source: string | undefined;
  /** Bytes that the tree may take. */
  readonly size: number;
  readonly limiter: Limiter;
  readonly pool: Pool;
};

/** Makes it. On failure a part of it may stay. */
export async function makeLimitedTree({ path, source, size, limiter, pool }: LimitedTree): Promise<void> {
  const fill = async (target: string): Promise<void> => {
    await chmod(target, 0o755);
    if (source !== undefined) await fillTree(pool, source, target);
  };
  try {
    if (limiter.kind === "project") {
      await mkdir(path);
      limitFolders([path], size);
      await fill(path);
      return;
    }
    await makeImage(path, {
      size,
      fill: async (root) => {
        // mkfs makes it for repairs, which make it again.
        unlinkat(root, "lost+found", AT_REMOVEDIR);
        await fill(`/proc/self/fd/${root}`);
      },
    });
  } catch (error) {
    if (systemCode(error) !== "ENOSPC" && systemCode(error) !== "EDQUOT") throw error;
    const words = `the container's image does not fit into a size of ${humanSize(size)}`;
    throw new EngineError("invalid_argument", words, { cause: error });
  }
}
