/** A run of the sweeper that fails is followed by another, whatever else happens or does not. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { StorageDriver } from "../storage-driver/driver.ts";
import { Sweeper } from "./sweeper.ts";

/** A driver whose first `failures` sweeps fail. */
function failing(failures: number): { readonly driver: StorageDriver; readonly sweeps: () => number } {
  let sweeps = 0;
  const sweep = async (): Promise<number> => {
    sweeps++;
    if (sweeps <= failures) throw new Error("the disk is away");
    return 0;
  };
  return { driver: { sweep } as Partial<StorageDriver> as StorageDriver, sweeps: () => sweeps };
}

test("a run that failed is tried again until one succeeds, and what waits is told until then", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { driver, sweeps } = failing(2);
  const sweeper = new Sweeper(driver);
  sweeper.add(4096);
  sweeper.start();
  await sweeper.settled();
  assert.deepEqual([sweeps(), sweeper.waiting], [1, 4096]);
  for (const waiting of [4096, 0]) {
    t.mock.timers.tick(30_000);
    await sweeper.settled();
    assert.equal(sweeper.waiting, waiting);
  }
  t.mock.timers.tick(3_600_000);
  await sweeper.settled();
  assert.equal(sweeps(), 3, "after a success nobody asks again");
  await sweeper.close();
});

test("a store that closes asks no more", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { driver, sweeps } = failing(9);
  const sweeper = new Sweeper(driver);
  sweeper.start();
  await sweeper.close();
  t.mock.timers.tick(3_600_000);
  assert.equal(sweeps(), 1);
});
