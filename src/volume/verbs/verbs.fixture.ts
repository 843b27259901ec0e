/** A volume store with its verbs over a fresh root, with trees to fill volumes with. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { EventBus } from "../../base/events.ts";
import { mountTable, unmountAll } from "../../host/mount.ts";
import type { Pool } from "../../host/pool.ts";
import { createPool } from "../../host/worker-pool.ts";
import type { Database } from "../../metadata/database.ts";
import { openDatabase } from "../../metadata/open.ts";
import type { VolumeDriver } from "../../volume-driver/driver.ts";
import { openVolumeDrivers } from "../../volume-driver/list.ts";
import { openVolumeStore } from "../open.ts";
import { volumeSchema } from "../schema.ts";
import type { VolumeStore } from "../store.ts";
import { noUsers, type VolumeUsers } from "../users.ts";
import type { VolumeVerbs } from "../verbs.ts";

export type Opened = { readonly store: VolumeStore; readonly verbs: VolumeVerbs };
export type Given = Opened & {
  readonly root: string;
  readonly database: Database;
  readonly pool: Pool;
  /** A store over the same root, as after a restart; `change` may put another driver in front. */
  readonly reopen: (change?: (driver: VolumeDriver) => VolumeDriver, users?: VolumeUsers) => Promise<Opened>;
};

/** Ends by asserting that nothing is mounted below the root. */
export async function given(work: (given: Given) => Promise<void>): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const root = await mkdtemp(join(tmpdir(), "volume-verbs-"));
  stack.defer(() => rm(root, { recursive: true, force: true }));
  const database = stack.use(await openDatabase(join(root, "meta.db"), [volumeSchema]));
  const pool = stack.use(createPool());
  const events = new EventBus();
  const reopen: Given["reopen"] = async (change = (driver) => driver, users = noUsers) => {
    const drivers = (await openVolumeDrivers({ root, pool })).map(change);
    const store = await openVolumeStore({ database, drivers, pool, events, root });
    return { store, verbs: store.verbs(users) };
  };
  const mounted = () => mountTable().filter(({ target }) => target.startsWith(root));
  try {
    await work({ root, database, pool, reopen, ...(await reopen()) });
    // What stays mounted as long as it exists is no leak.
    const kept = mounted().filter(({ target }) => !target.includes("/volume-drivers/tmpfs/"));
    assert.deepEqual(kept, [], "a mount is left");
  } finally {
    for (const { target } of mounted()) unmountAll(target);
  }
}

/** A driver that behaves as `driver` but for the members in `change`. */
export const withChange = (driver: VolumeDriver, change: Partial<VolumeDriver>): VolumeDriver =>
  new Proxy(driver, {
    get: (target, key) => {
      const value: unknown = Reflect.get(Object.hasOwn(change, key) ? change : target, key);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });

/** Without the powers that make copies cheap, so that the store copies. */
export const plain = (driver: VolumeDriver): VolumeDriver =>
  driver.name === "local" ? withChange(driver, { snapshots: undefined as never }) : driver;
