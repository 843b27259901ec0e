/**
 * Whether overlayfs works at a home, found out by using it: whether it keeps diffs plain when it is told to, whether it
 * knows `volatile`, and how it is told its layers. Nothing is asked of version numbers. Leaves no mount and no file,
 * also when it fails.
 */
import { chmod, rename } from "node:fs/promises";
import { join } from "node:path";
import { systemCode } from "../../base/errors.ts";
import { mountAllAsync, unmountAllAsync } from "../../host/mount.ts";
import { overlayAppends } from "../../host/mount-overlay.ts";
import { AT_FDCWD, getXattr } from "../../host/sys.ts";
import { inTrialFolder } from "../../host/trial-folder.ts";
import { overlayMarkPrefix } from "../../host/user-namespace.ts";
import { mountsAgain, overlayFailure, type TrialStep } from "../overlay-trial.ts";

/** What a trial found: `reason` says in one sentence why overlay cannot work. */
export type Trial =
  | { readonly reason: string }
  | {
      readonly reason: undefined;
      readonly volatile: boolean;
      /** Lower directories are told one by one; else one page must name them all. */
      readonly appends: boolean;
    };

/** Tries overlayfs with `options` in the folder `home`, which is made for the trial when it does not exist. */
export function tryOverlay(home: string, options: readonly string[]): Promise<Trial> {
  return inTrialFolder(home, async (scratch) => {
    const step = stepWith(options);
    const reason = (await overlayFailure("overlayfs", scratch, step)) ?? (await unplainDiff(scratch, step));
    if (reason !== undefined) return { reason };
    const volatile = await mountsAgain(scratch, stepWith([...options, "volatile"]));
    return { reason, volatile, appends: overlayAppends() };
  });
}

/** Why an upper directory would not hold all that it means: then its tar would be wrong. */
async function unplainDiff(scratch: string, step: TrialStep): Promise<string | undefined> {
  const [target, name] = [join(scratch, "merged"), "apart/inner"];
  await mountAllAsync([step(scratch)], target);
  try {
    await chmod(join(target, name), 0o600);
    if (getXattr(AT_FDCWD, join(scratch, "upper", name), `${overlayMarkPrefix()}metacopy`) !== undefined)
      return "overlayfs copies attributes without contents (metacopy), though it is told not to: no layer could be made of that";
    await rename(join(target, "apart"), join(target, "moved"));
    return "overlayfs renames lower directories by redirects (redirect_dir), though it is told not to: no layer could be made of that";
  } catch (error) {
    if (systemCode(error) !== "EXDEV") throw error;
    return undefined;
  } finally {
    await unmountAllAsync(target);
  }
}

const stepWith =
  (options: readonly string[]): TrialStep =>
  (scratch) => ({
    kind: "overlay",
    lower: [join(scratch, "lower")],
    upper: join(scratch, "upper"),
    work: join(scratch, "work"),
    options,
  });
