/**
 * Mounts that a program makes and a process of its own serves (FUSE filesystems). The program goes into the background
 * by itself, in a session of its own, so the mount outlives this process; the process that serves it ends with its last
 * mount. Synchronous, with a deadline: some milliseconds where all is well.
 */
import { spawnSync } from "node:child_process";
import { EngineError, errorMessage, systemCode } from "../base/errors.ts";
import type { MountStep } from "../base/mount.ts";
import { detach, MS, mount, orDetach } from "./mount-calls.ts";

export type HelperStep = Extract<MountStep, { kind: "helper" }>;

const deadlineMs = 10_000;
const pollMs = 5;
const messageLength = 400;

/** Mounts one such filesystem on `target`, private. `countAt` says how many mounts stand on a path. */
export function mountHelper(step: HelperStep, target: string, countAt: (path: string) => number): void {
  const before = countAt(target);
  const until = performance.now() + deadlineMs;
  try {
    run(step, target);
    while (countAt(target) <= before) {
      if (performance.now() > until) throw late(step.program);
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, pollMs);
    }
  } catch (error) {
    if (countAt(target) > before) detach(target);
    throw error;
  }
  orDetach(target, () => mount({ target, flags: MS.PRIVATE }));
}

const late = (program: string): EngineError =>
  new EngineError("deadline_exceeded", `${program} did not mount within ${deadlineMs} ms`);

function run({ program, args, directory }: HelperStep, target: string): void {
  const { error, status, signal, stderr } = spawnSync(program, [...args, target], {
    cwd: directory,
    stdio: ["ignore", "ignore", "pipe"],
    timeout: deadlineMs,
    killSignal: "SIGKILL",
  });
  if (error !== undefined) throw spawnError(program, error);
  if (status === 0) return;
  const said = stderr.toString().trim().split("\n").at(-1)?.slice(0, messageLength) ?? "";
  const ended = signal === null ? `code ${status}` : signal;
  throw new Error(`${program} ended with ${ended}${said === "" ? "" : `: ${said}`}`);
}

function spawnError(program: string, error: Error): Error {
  const code = systemCode(error);
  if (code === "ETIMEDOUT") return late(program);
  if (code !== "ENOENT" && code !== "EACCES") return error;
  const words = `cannot run ${program} (${errorMessage(error)}): install it, or put its directory in PATH`;
  return new EngineError("unsupported", words, { cause: error });
}
