/** Whether aufs works at a home, found out by using it, and whether it knows `dirperm1`. Leaves no mount and no file. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { filesystemName, nearestExisting } from "../../host/filesystem.ts";
import { inTrialFolder } from "../../host/trial-folder.ts";
import { mountsAgain, overlayFailure, type TrialStep } from "../overlay-trial.ts";
import { unionStep, unspeakable } from "./branches.ts";

/** What a trial found: `reason` says in one sentence why aufs cannot work. */
export type Trial = { readonly reason: string } | { readonly reason: undefined; readonly dirperm1: boolean };

/** Filesystems that aufs writes no branch on (moby aufs.Init). */
const unfit = ["aufs", "btrfs", "ecryptfs"];

export async function tryAufs(home: string): Promise<Trial> {
  if (unspeakable(home)) return { reason: `aufs cannot be told the path ${home}: it holds one of : , = \\ or a space` };
  const filesystem = await filesystemName(await nearestExisting(home));
  if (unfit.includes(filesystem)) return { reason: `aufs cannot keep a writable branch on ${filesystem}` };
  return inTrialFolder(home, async (scratch) => {
    const reason = await overlayFailure("aufs", scratch, stepWith(false));
    // Mounting loads the module where there is one; only then is the list complete.
    if (reason !== undefined) return { reason: (await kernelKnowsAufs()) ? reason : noAufs };
    return { reason, dirperm1: await mountsAgain(scratch, stepWith(true)) };
  });
}

export const noAufs = "this kernel has no aufs, which was never part of Linux: use overlay2, which does the same work";

async function kernelKnowsAufs(): Promise<boolean> {
  return /\taufs$/m.test(await readFile("/proc/filesystems", "utf8"));
}

const stepWith =
  (dirperm1: boolean): TrialStep =>
  (scratch) =>
    unionStep({ layers: [join(scratch, "lower")], writable: join(scratch, "upper"), dirperm1 });
