/**
 * The walks of tree-task.ts, run in the pool. Entries vanish from a driver's sight by a rename into the trash; what
 * they cost is paid here, later, beside everything else.
 */
import type { Pool } from "../host/pool.ts";

const tasks = new URL("./tree-task.ts", import.meta.url);

/** Deletes every tree in `trash`; returns how many there were. */
export async function sweepTrash(pool: Pool, trash: string, signal?: AbortSignal): Promise<number> {
  return pool.run<{ folder: string }, number>(tasks, "emptyFolderTask", { folder: trash }, signal ? { signal } : {});
}

/** Copies the tree `source` to `target` exactly (see tree-task.ts). */
export async function copyTree(pool: Pool, source: string, target: string): Promise<void> {
  await pool.run<{ source: string; target: string }, void>(tasks, "copyTreeTask", { source, target });
}

/** Copies what is in `source` into the empty directory `target` (see tree-task.ts). */
export async function fillTree(pool: Pool, source: string, target: string): Promise<void> {
  await pool.run<{ source: string; target: string }, void>(tasks, "fillTreeTask", { source, target });
}
