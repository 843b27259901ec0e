/**
 * Tries one verb on a host that fails call 1, call 2, ... until a run meets no fault, and asserts the store's invariants after
 * each. Collects what was failed, for the report.
 */
import assert from "node:assert/strict";
import { constants } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { errorCode, systemCode } from "../../src/base/errors.ts";
import type { FaultStore } from "./fault-store.ts";
import { arm, disarm, type Outcome } from "./faulty-host.ts";
import type { Verb } from "./verbs.ts";

const { EIO, ENOSPC, EDQUOT, ENOMEM } = constants.errno;
const errnos = [EIO, ENOSPC, EDQUOT, ENOMEM] as const;
const nameOfErrno = new Map([
  [EIO, "EIO"],
  [ENOSPC, "ENOSPC"],
  [EDQUOT, "EDQUOT"],
  [ENOMEM, "ENOMEM"],
]);

export type Tried = {
  readonly verb: string;
  readonly at: number;
  readonly errno: number;
  readonly label: string;
  readonly failed: boolean;
  readonly leftovers: readonly string[];
};

export type RunOptions = {
  readonly onward?: boolean;
  /** Shifts which errno meets which call. */
  readonly turn?: number;
  /** Which N are tried; all when it is undefined. */
  readonly picks?: (at: number) => boolean;
  /** Every so often everything acknowledged is read, and the store is started anew. */
  readonly everyWhole: number;
  readonly report: (tried: Tried) => void;
};

/** How often in a row a call is failed again that nobody told of. */
const mostUntold = 4;

/** More than any verb makes. */
const mostCalls = 5000;

type Attempt = { readonly outcome: Outcome; readonly error: unknown };

async function attempt(world: FaultStore, verb: Verb, plan: Parameters<typeof arm>[0]): Promise<Attempt> {
  arm(plan);
  let error: unknown;
  try {
    await verb.act(world);
  } catch (caught) {
    error = caught ?? new Error("a failure without an error");
  }
  return { outcome: disarm(), error };
}

/** Runs `verb` with a fault at each call. */
export async function runVerb(world: FaultStore, verb: Verb, options: RunOptions): Promise<number> {
  let untold = 0;
  for (let at = 1; ; at++) {
    if (options.picks?.(at) === false && at < mostCalls) continue;
    const errno = errnos[(at + (options.turn ?? 0)) % errnos.length] ?? EIO;
    await verb.prepare?.(world);
    if (!isOpen(verb)) await world.driver.sweep();
    const plan = { at, errno, onward: options.onward === true };
    const { outcome, error } = await attempt(world, verb, plan);
    const where = `${world.factory.name}: ${verb.name}: call ${at} (${outcome.label}) fails with ${nameOfErrno.get(errno)}`;
    if (outcome.fired === 0) {
      assert.equal(error, undefined, `${where}: without a fault the verb succeeds`);
      await verb.undo?.(world);
      return at - 1;
    }
    try {
      if (error === undefined) await verb.undo?.(world);
      else if (options.onward !== true) assertTruth(error, { errno, label: outcome.label });
      const leftovers = await settle(world, verb, { error, patience: options.onward === true ? 8 : 1000 });
      if (options.onward !== true) {
        assert.deepEqual(leftovers, [], "what is there too much");
        // The call may have been a sweep's, which runs beside the verb: what the verb swallows, it swallows again.
        const told = error !== undefined || verb.survives.test(outcome.label);
        assert.ok(told || untold < mostUntold, "the failure was not told");
        untold = told ? 0 : untold + 1;
      }
      options.report({ verb: verb.name, at, errno, label: outcome.label, failed: error !== undefined, leftovers });
      await afterwards(world, verb, { error, whole: leftovers.length > 0 || at % options.everyWhole === 0 });
    } catch (complaint) {
      const words = complaint instanceof Error ? complaint.message : complaint;
      throw new Error(`${where}: ${words}`, { cause: complaint ?? error });
    }
    if (untold > 0) at--;
  }
}

/** Full is full, and no failing disk is told as somebody's mistake. */
function assertTruth(error: unknown, { errno, label }: { readonly errno: number; readonly label: string }): void {
  const code = errorCode(error);
  const full = (errno === ENOSPC || errno === EDQUOT) && !/^sqlite (get|all)/.test(label);
  const codes = full ? ["no_space"] : ["internal", "data_loss", "unavailable"];
  assert.ok(
    codes.includes(code),
    `told as ${code} (${systemCode(error)}): ${error instanceof Error ? error.message : error}`,
  );
}

const isOpen = (verb: Verb): boolean => verb.name === "open";

/** `patience`: how often it is looked, every 5 ms, before what is there is called a leftover. */
type Settling = { readonly error: unknown; readonly patience: number };

/** What is there too much once everything under way has come to rest. */
async function settle(world: FaultStore, verb: Verb, { error, patience }: Settling): Promise<string[]> {
  if (isOpen(verb) && error !== undefined) return [];
  const kind = verb.placesOnly === true ? /^folder / : /^(folder|mount) /;
  const names = error === undefined ? [] : (verb.containers ?? []).map((id) => `layers/${id}`);
  const isExpected = (line: string): boolean => kind.test(line) && names.some((name) => line.endsWith(name));
  for (let tries = 1; ; tries++) {
    const found = (await world.leftovers()).filter((line) => !isExpected(line));
    if (found.length === 0 || tries === patience) return found;
    await sleep(5);
  }
}

type Then = { readonly error: unknown; readonly whole: boolean };

/** What is acknowledged is there; the verb succeeds when it is tried again; a start finds everything in agreement. */
async function afterwards(world: FaultStore, verb: Verb, { error, whole }: Then): Promise<void> {
  if (isOpen(verb) && error !== undefined) {
    assert.deepEqual(world.descriptors(), [], "descriptors after a start that failed");
    await world.open();
  }
  if (error !== undefined && !isOpen(verb)) await world.mend();
  world.assertInSight(["kept"]);
  if (!whole) return;
  await verb.prepare?.(world);
  await verb.act(world);
  await verb.undo?.(world);
  await world.close();
  await world.open();
  assert.deepEqual(await world.leftovers(), [], "after a restart");
  world.assertInSight(["kept"]);
  await world.assertWhole();
}
