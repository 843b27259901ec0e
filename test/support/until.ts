/** Waiting for what another process does: the deadline is for what never comes, not for what is slow. */
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";

/** Resolves when `holds`; fails in the words of `what` when it did not for `patience` milliseconds. */
export async function until(
  what: string,
  holds: () => boolean | Promise<boolean>,
  patience: number = 60_000,
): Promise<void> {
  for (const end = performance.now() + patience; !(await holds()); await sleep(patience / 3000))
    assert.ok(performance.now() < end, `never came: ${what}`);
}
