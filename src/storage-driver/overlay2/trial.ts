/**
 * Whether overlayfs works at a home, found out by using it, and whether it knows `volatile`. Nothing is asked of
 * version numbers. Leaves no mount and no file, also when it fails.
 */
import { join } from "node:path";
import { inTrialFolder, mountsAgain, overlayFailure, type TrialStep } from "../overlay-trial.ts";

/** What a trial found: `reason` says in one sentence why overlay cannot work. */
export type Trial = { readonly reason: string } | { readonly reason: undefined; readonly volatile: boolean };

/** Tries overlayfs with `options` in the folder `home`, which is made for the trial when it does not exist. */
export function tryOverlay(home: string, options: readonly string[]): Promise<Trial> {
  return inTrialFolder(home, async (scratch) => {
    const reason = await overlayFailure("overlayfs", scratch, stepWith(options));
    if (reason !== undefined) return { reason };
    return { reason, volatile: await mountsAgain(scratch, stepWith([...options, "volatile"])) };
  });
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
