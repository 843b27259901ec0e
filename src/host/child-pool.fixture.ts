/** Tasks that the tests of the child pool run. */
import { statSync as stat } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

export const pid = (): number => process.pid;
export const statSync = (path: string): boolean => stat(path).isDirectory();

export async function sleepFor(milliseconds: number): Promise<void> {
  await sleep(milliseconds);
}

/** Without ever giving the event loop a turn. */
export function workFor(milliseconds: number): number {
  for (const end = performance.now() + milliseconds; performance.now() < end; );
  return milliseconds;
}
