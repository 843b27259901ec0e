/**
 * What was removed and is not deleted yet. A stop does not wait for the sweeper, so its trash is no problem: it is counted. What
 * has another name than removals get was put there by somebody else, and is a leftover.
 */
import { join } from "node:path";
import { archiveTasks } from "../archive/task-url.ts";
import type { TreeSize } from "../archive/tree-size.ts";
import { namesIn } from "../host/names-in.ts";
import type { CheckContext } from "./context.ts";
import type { AwaitingRemoval } from "./problem.ts";

/** What drivers name what they remove, what the removal of a tree makes of its folders, and folders of trials. */
const ours = /^(\.?[0-9a-f]{24}|\.trial-.{6})$/;

/** Counts what every driver's sweep will delete, and reports what else is there. */
export async function checkTrash({ drivers, findings, pool }: CheckContext): Promise<AwaitingRemoval> {
  let trees = 0;
  let bytes = 0;
  for (const driver of drivers) {
    const trash = join(driver.home, "trash");
    const names = await namesIn(trash);
    const strange = names.filter((name) => !ours.test(name));
    for (const name of strange)
      findings.push({
        kind: "leftover",
        object: join(trash, name),
        detail: "in the trash, and not by a name that removals get",
        repair: "deletes it",
        mend: { sweep: driver },
      });
    if (names.length === strange.length) continue;
    trees += names.length - strange.length;
    for (const path of names.filter((name) => ours.test(name)).map((name) => join(trash, name)))
      bytes += (await pool.run<{ path: string }, TreeSize>(archiveTasks, "treeSizeTask", { path })).bytes;
  }
  return { trees, bytes };
}
