/**
 * Containers as the users of volumes: who names one, and keeping all of them from starting, stopping or writing while a volume
 * is copied or changed. Locks are taken in the order of ids, before any lock of a volume; nobody takes two otherwise.
 */
import type { Held, VolumeUser, VolumeUsers } from "../volume/users.ts";
import type { Context } from "./context.ts";
import type { Entry } from "./entry.ts";
import { volumeNames } from "./mount-sources.ts";
import { holdLocked, unpauseLocked } from "./pause.ts";
import { recordStatement } from "./record.ts";
import { startContainer } from "./start.ts";
import { stopContainer } from "./stop.ts";

export function volumeUsersOf(context: Context): VolumeUsers {
  return {
    of: (volume) => entriesOf(context, volume).map((entry) => userOf(entry, volume)),
    hold: (volume, options) => hold(context, volume, options.freeze),
    stop: (ids) => each(context, ids, (entry) => stopContainer(context, entry, {})),
    start: (ids) => each(context, ids, (entry) => startContainer(context, entry)),
  };
}

/** By name. */
function entriesOf(context: Context, volume: string): readonly Entry[] {
  const named = context.entries.all().filter((entry) => volumeNames(entry.record).includes(volume));
  return named.sort((a, b) => (a.record.name < b.record.name ? -1 : 1));
}

function userOf(entry: Entry, volume: string): VolumeUser {
  const { id, name, mounts, hostConfig, state } = entry.view();
  const own = mounts.filter((mount) => mount.type === "volume" && mount.name === volume);
  return {
    id,
    name,
    status: state.status,
    mounts: own.map(({ destination, readWrite }) => ({ destination, readWrite })),
    goesWithItsEnd: hostConfig.AutoRemove === true,
  };
}

async function hold(context: Context, volume: string, freeze: boolean): Promise<Held> {
  await using stack = new AsyncDisposableStack();
  const entries = [...entriesOf(context, volume)].sort((a, b) => (a.id < b.id ? -1 : 1));
  for (const entry of entries) stack.use(await lock(entry));
  for (const entry of entries) if (freeze) await standStill(context, entry, stack);
  const held = stack.move();
  return {
    running: entries.filter((entry) => entry.isRunning).map(({ id }) => id),
    moved: (to) => moved(entries, volume, to),
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  };
}

/** The container's lock, until it is disposed. */
async function lock(entry: Entry): Promise<Disposable> {
  const [taken, given] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  void entry.lock.run(async () => {
    taken.resolve();
    await given.promise;
  });
  await taken.promise;
  return { [Symbol.dispose]: () => given.resolve() };
}

/** Noted as the engine's own wish, so that a start of the engine after its kill -9 lets the container go on. */
async function standStill(context: Context, entry: Entry, stack: AsyncDisposableStack): Promise<void> {
  if (entry.run === undefined || entry.run.paused) return;
  await holdLocked(context, entry);
  stack.defer(async () => {
    // What was killed meanwhile needs no thawing.
    if (entry.run?.paused !== true) return;
    const thawed = unpauseLocked(context, entry);
    context.background.start(`unpause container ${entry.id}`, thawed);
    await thawed.catch(() => undefined);
  });
}

/** The locks are held, so nobody else changes the records meanwhile. */
function moved(
  entries: readonly Entry[],
  volume: string,
  { driver, mountpoint }: { readonly driver: string; readonly mountpoint: string },
): ReturnType<Held["moved"]> {
  const records = entries.map(({ record }) => ({
    ...record,
    mounts: record.mounts.map((mount) =>
      mount.type === "volume" && mount.name === volume ? { ...mount, driver, source: mountpoint } : mount,
    ),
  }));
  return {
    statements: records.map(recordStatement),
    written: () => {
      for (const [index, record] of records.entries()) {
        const entry = entries[index];
        if (entry !== undefined) entry.record = record;
      }
    },
  };
}

/** Every one is tried; the first failure is thrown. One that is gone is nothing. */
async function each(context: Context, ids: readonly string[], work: (entry: Entry) => Promise<unknown>): Promise<void> {
  const there = ids.filter((id) => context.entries.has(id)).map((id) => context.entries.get(id));
  const failed = (await Promise.allSettled(there.map(work))).find((result) => result.status === "rejected");
  if (failed !== undefined) throw failed.reason;
}
