/** `rm`, and `rm -f`: what runs is killed first, and a restart that is pending does not happen. */
import { isError } from "../base/errors.ts";
import type { Context } from "./context.ts";
import type { Entry } from "./entry.ts";
import { killAndWait } from "./kill.ts";
import { removeContainer } from "./remove.ts";
import { cancelRestart } from "./restart.ts";

export type RemoveOptions = { readonly force: boolean; readonly volumes: boolean };

export async function removeByUser(context: Context, entry: Entry, options: RemoveOptions): Promise<void> {
  if (!options.force) return removeContainer(context, entry, options);
  await cancelRestart(context, entry);
  const { run } = entry;
  if (run !== undefined) await killAndWait(context, entry, run);
  try {
    await removeContainer(context, entry, options);
  } catch (error) {
    // `--rm` was faster: it is gone, as was asked.
    if (!(run?.autoRemove === true && isError(error, "not_found"))) throw error;
  }
}
