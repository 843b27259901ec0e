/**
 * Long work on trees in a worker, as a generator that tells what it has passed: it rests now and then, so that an abort is heard
 * and the caller learns, by lines of JSON, how far it is.
 */
import { setImmediate as rest } from "node:timers/promises";
import type { TaskContext } from "../host/pool.ts";
import type { Passed } from "./mirror-tree.ts";

/** Entries and bytes since the work began. */
export type PassedMessage = { readonly passed: Passed };

/** Milliseconds between two rests, and between two messages. */
const stride = 25;
const tellEvery = 200;

/** Runs it to its end, with a message now and then, and one at the end. */
export async function stepByStep<R>(steps: Generator<Passed, R>, context: TaskContext): Promise<R> {
  const passed = { entries: 0, bytes: 0 };
  let [rested, told] = [performance.now(), 0];
  try {
    for (;;) {
      const step = steps.next();
      if (step.done === true) {
        await tellLine(context, { passed } satisfies PassedMessage);
        return step.value;
      }
      passed.entries += step.value.entries;
      passed.bytes += step.value.bytes;
      const now = performance.now();
      if (now - rested < stride) continue;
      if (now - told >= tellEvery) {
        await tellLine(context, { passed } satisfies PassedMessage);
        told = now;
      }
      // A message, be it an abort, comes only now.
      await rest();
      context.signal.throwIfAborted();
      rested = performance.now();
    }
  } finally {
    // What it has open is closed where it was left.
    steps.return(undefined as never);
  }
}

export const tellLine = (context: TaskContext, message: object): Promise<void> =>
  context.write(Buffer.from(`${JSON.stringify(message)}\n`));
