/**
 * The file creation mask of this process, read once: `process.umask()` would change it for a moment, for all threads.
 */
import { readFileSync } from "node:fs";

let umask: number | undefined;

export function fileCreationMask(): number {
  umask ??= Number.parseInt(/^Umask:\s+([0-7]+)/m.exec(readFileSync("/proc/self/status", "latin1"))?.[1] ?? "777", 8);
  return umask;
}
