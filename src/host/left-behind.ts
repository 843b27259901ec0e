/**
 * What a folder of a suite still has in the kernel, for drivers' conformance suites: mounts in, of or over it, loop devices on
 * files in it, processes whose command lines name it. Read from /proc and /sys, not from what the engine remembers.
 */
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

/** A program that serves a mount, and a loop device, go some moments after the mount. */
const patienceMs = 20_000;

function contents(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    // gone meanwhile, or a device that is not set up
    return "";
  }
}

/** A host may hide what it has. */
function namesOf(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function found(folder: string): string[] {
  // The folder or something in it, not one whose name begins the same.
  const names = (text: string): boolean =>
    text
      .split(folder)
      .slice(1)
      .some((after) => after === "" || /^[/\s\0:,)]/.test(after));
  const mounts = contents("/proc/self/mountinfo").split("\n").filter(names);
  const loops = namesOf("/sys/block")
    .map((name) => ({ name, file: contents(`/sys/block/${name}/loop/backing_file`).trim() }))
    .filter(({ file }) => names(file));
  const processes = namesOf("/proc")
    .filter((pid) => /^\d+$/.test(pid) && Number(pid) !== process.pid)
    .map((pid) => ({ pid, line: contents(`/proc/${pid}/cmdline`) }))
    .filter(({ line }) => names(line));
  return [
    ...mounts.map((line) => `mount ${line}`),
    ...loops.map(({ name, file }) => `loop device /dev/${name} on ${file}`),
    ...processes.map(({ pid, line }) => `process ${pid}: ${line.replaceAll("\0", " ").trim()}`),
  ];
}

/** What is there still after some patience; nothing is as it should be. `folder` has no character that mountinfo escapes. */
export async function leftBehind(folder: string, patience = patienceMs): Promise<string[]> {
  const end = performance.now() + patience;
  for (;;) {
    const left = found(folder);
    if (left.length === 0 || performance.now() > end) return left;
    await sleep(50);
  }
}
