/** Whether fuse-overlayfs works at a home, found out by using it. Leaves no mount, no process and no file. */
import { access } from "node:fs/promises";
import { errorMessage } from "../../base/errors.ts";
import { runProgram } from "../../host/program.ts";
import { inTrialFolder } from "../../host/trial-folder.ts";
import { overlayFailure } from "../overlay-trial.ts";
import { program, serve } from "./serve.ts";

const device = "/dev/fuse";
const deadlineMs = 10_000;

/** One sentence that says why not, or undefined. */
export async function tryFuseOverlay(home: string): Promise<string | undefined> {
  if (home.includes(":")) return `${home} has a colon in its name, which ${program} takes for the end of a path`;
  const reason = (await deviceFailure()) ?? (await programFailure());
  if (reason !== undefined) return reason;
  return inTrialFolder(home, (scratch) =>
    overlayFailure(program, scratch, () => serve(scratch, ["lower"], { diff: "upper", work: "work" })),
  );
}

async function deviceFailure(): Promise<string | undefined> {
  try {
    await access(device);
    return undefined;
  } catch (error) {
    return `fuse-overlayfs needs ${device} (${errorMessage(error)}); load the kernel module fuse`;
  }
}

async function programFailure(): Promise<string | undefined> {
  try {
    const { code } = await runProgram(program, ["--version"], { deadline: deadlineMs });
    return code === 0 ? undefined : `${program} --version ended with code ${code}`;
  } catch (error) {
    return errorMessage(error);
  }
}
