/**
 * Processes by what the kernel says of them. A process is known by its pid and its start time together, so that a pid
 * that was given out again is never taken for the one that we knew.
 */
import { readdir, readFile } from "node:fs/promises";
import { systemCode } from "../base/errors.ts";

export type ProcessIdentity = {
  readonly pid: number;
  /** Clock ticks since boot (proc(5), stat field 22). */
  readonly startTime: number;
};

/** The identity of a pid that runs now; undefined when it is gone or only waits to be reaped. */
export async function identify(pid: number): Promise<ProcessIdentity | undefined> {
  const text = await readFile(`/proc/${pid}/stat`, "utf8").catch((error: unknown) => {
    if (systemCode(error) === "ENOENT" || systemCode(error) === "ESRCH") return undefined;
    throw error;
  });
  if (text === undefined) return undefined;
  // The command may hold spaces and brackets; fields are counted after its last one.
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  const [state = "X"] = fields;
  return state === "Z" || state === "X" ? undefined : { pid, startTime: Number(fields[19]) };
}

export async function isAlive(identity: ProcessIdentity): Promise<boolean> {
  const now = await identify(identity.pid);
  return now?.startTime === identity.startTime;
}

/** Sends a signal; false when the process is gone. */
export async function signalProcess(identity: ProcessIdentity, signal: number): Promise<boolean> {
  if (!(await isAlive(identity))) return false;
  try {
    process.kill(identity.pid, signal);
    return true;
  } catch (error) {
    if (systemCode(error) === "ESRCH") return false;
    throw error;
  }
}

/** Waits until the process is gone; false when it still is there after `deadline` milliseconds. */
export async function waitUntilGone(identity: ProcessIdentity, deadline: number): Promise<boolean> {
  const end = performance.now() + deadline;
  for (let pause = 1; await isAlive(identity); pause = Math.min(pause * 2, 50)) {
    if (performance.now() > end) return false;
    await new Promise((done) => setTimeout(done, pause));
  }
  return true;
}

/** The children of a process, and theirs. One that is born meanwhile may be missed. */
export async function descendantsOf(pid: number): Promise<readonly ProcessIdentity[]> {
  const found: ProcessIdentity[] = [];
  for (const thread of await readdir(`/proc/${pid}/task`).catch(() => [])) {
    const text = await readFile(`/proc/${pid}/task/${thread}/children`, "utf8").catch(() => "");
    for (const child of text.split(" ").filter((word) => word !== "")) {
      const identity = await identify(Number(child));
      if (identity !== undefined) found.push(identity);
      found.push(...(await descendantsOf(Number(child))));
    }
  }
  return found;
}
