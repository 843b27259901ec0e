/** Waiting for what another process does: the deadline is for what never comes, not for what is slow. */
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";

const patience = 60_000;

/** Resolves when `holds`; fails in the words of `what`. */
export async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = performance.now() + patience; !(await holds()); await sleep(20))
    assert.ok(performance.now() < end, `never came: ${what}`);
}
