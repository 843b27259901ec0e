/**
 * Mounts that a program makes and a process of its own serves (FUSE filesystems). The program goes into the background
 * by itself, in a session of its own, so the mount outlives this process; the process that serves it ends with its last
 * mount. With a deadline: some milliseconds where all is well.
 */
import { setTimeout } from "node:timers/promises";
import { EngineError } from "../base/errors.ts";
import type { MountStep } from "../base/mount.ts";
import { detachAsync, MS, mount, orDetach } from "./mount-calls.ts";
import { runProgram } from "./program.ts";

export type HelperStep = Extract<MountStep, { kind: "helper" }>;

const deadlineMs = 30_000;
const pollMs = 5;
const messageLength = 400;

/** Mounts one such filesystem on `target`, private. `countAt` says how many mounts stand on a path. */
export async function mountHelper(step: HelperStep, target: string, countAt: (path: string) => number): Promise<void> {
  const before = countAt(target);
  const until = performance.now() + deadlineMs;
  try {
    await run(step, target);
    while (countAt(target) <= before) {
      if (performance.now() > until)
        throw new EngineError("deadline_exceeded", `${step.program} did not mount within ${deadlineMs} ms`);
      await setTimeout(pollMs);
    }
  } catch (error) {
    if (countAt(target) > before) await detachAsync(target);
    throw error;
  }
  orDetach(target, () => mount({ target, flags: MS.PRIVATE }));
}

async function run({ program, args, directory }: HelperStep, target: string): Promise<void> {
  const quoted = target.replace(/[\\,]/g, "\\$&");
  const words = args.map((word) => word.replaceAll("{target}", () => quoted));
  const { code, stderr } = await runProgram(program, [...words, target], { deadline: deadlineMs, directory });
  if (code === 0) return;
  const said = stderr.trim().split("\n").at(-1)?.slice(0, messageLength) ?? "";
  throw new Error(`${program} ended with code ${code}${said === "" ? "" : `: ${said}`}`);
}
