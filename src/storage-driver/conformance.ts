/**
 * What every storage driver must do, run by each driver's own test on real filesystems. The cases are those of moby's
 * graphtest and of containerd's SnapshotterSuite (their numbers are of the bugs they once caught), written against
 * `driver.ts`. They ask traits, never names.
 *
 * Every case ends with everything removed and swept, and asserts that no mount, loop device, process, file and id is left; so
 * does the suite, of the filesystem that it ran on.
 */
import assert from "node:assert/strict";
import { mkdirSync, readdirSync, rmdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { after, before, describe, test } from "node:test";
import { leftBehind } from "../host/left-behind.ts";
import type { Pool } from "../host/pool.ts";
import { createPool } from "../host/worker-pool.ts";
import { type ConformanceCase, makeBench } from "./conformance-bench.ts";
import { cloneCases } from "./conformance-clone-cases.ts";
import { lifeCases } from "./conformance-life-cases.ts";
import { sizeCases } from "./conformance-size-cases.ts";
import { treeCases } from "./conformance-tree-cases.ts";
import type { DriverFactory, StorageDriver } from "./driver.ts";

export type ConformanceOptions = {
  /** Driver and filesystem, as the report shows them. */
  readonly name: string;
  readonly factory: DriverFactory;
  /** A folder on the filesystem to be tried, for the whole suite. */
  readonly makeHome: () => Promise<AsyncDisposable & { readonly path: string }>;
  /** Names what else the driver keeps for a home once everything in it was removed: datasets and the like. None may be. */
  readonly leftOf?: (home: string) => Promise<readonly string[]>;
};

/** Every case, in order. */
export const conformanceCases: readonly ConformanceCase[] = [...treeCases, ...lifeCases, ...sizeCases, ...cloneCases];

/** Registers the suite with node:test. */
export function runConformance({ name, factory, makeHome, leftOf }: ConformanceOptions): void {
  describe(`conformance: ${name}`, () => {
    let base: Awaited<ReturnType<typeof makeHome>>;
    let pool: Pool & AsyncDisposable;
    let cases = 0;
    before(async () => {
      base = await makeHome();
      pool = createPool({ size: 1 });
    });
    after(async () => {
      await pool[Symbol.asyncDispose]();
      await base[Symbol.asyncDispose]();
      assert.deepEqual(await leftBehind(scratchOf(base.path)), [], "the suite left something");
    });
    for (const [title, run] of conformanceCases)
      test(title, async () => {
        const home = join(base.path, `case-${++cases}`);
        const driver = await factory.open(home, {}, { pool });
        const folders = picture(home);
        const scratch = join(base.path, `views-${cases}`);
        mkdirSync(scratch);
        await run(makeBench({ driver, factory, home, pool }, scratch));
        await clear(driver);
        assert.deepEqual(await driver.list(), [], "an id is left");
        assert.deepEqual(picture(home), folders, "a file is left");
        await driver[Symbol.asyncDispose]();
        for (const folder of [home, scratch])
          assert.deepEqual(await leftBehind(folder), [], "a mount, loop device or process is left");
        assert.deepEqual((await leftOf?.(home)) ?? [], [], "something of the driver's own is left");
        rmdirSync(scratch);
        rmSync(home, { recursive: true });
      });
  });
}

/** What was made for the suite: in the system's temporary folder the folder that holds its home, else the home. */
function scratchOf(path: string): string {
  const [first = "", ...rest] = relative(tmpdir(), path).split("/");
  return first === "" || first === ".." || rest.includes("..") ? path : join(tmpdir(), first);
}

async function clear(driver: StorageDriver): Promise<void> {
  for (const id of await driver.list()) await driver.remove(id);
  await driver.sweep();
}

/** Every path below a home, without what a subvolume's number would tell. */
function picture(home: string): string[] {
  return readdirSync(home, { recursive: true, encoding: "utf8" }).toSorted();
}
