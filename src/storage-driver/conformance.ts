/**
 * What every storage driver must do, run by each driver's own test on real filesystems. The cases are those of moby's
 * graphtest and of containerd's SnapshotterSuite (their numbers are of the bugs they once caught), written against
 * `driver.ts`. They ask traits, never names.
 *
 * Every case ends with everything removed and swept, and asserts that no mount, no file and no id is left.
 */
import assert from "node:assert/strict";
import { chmodSync, lstatSync, mkdirSync, mkdtempSync, readdirSync, rmdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { mountAll, mountTable, unmountAll } from "../host/mount.ts";
import type { Pool } from "../host/pool.ts";
import { createPool } from "../host/worker-pool.ts";
import { conformanceCases } from "./conformance-cases.ts";
import type { DriverFactory, LayerRef, StorageDriver } from "./driver.ts";

export type ConformanceOptions = {
  /** Driver and filesystem, as the report shows them. */
  readonly name: string;
  readonly factory: DriverFactory;
  /** A folder on the filesystem to be tried, for the whole suite. */
  readonly makeHome: () => Promise<AsyncDisposable & { readonly path: string }>;
};

/** A driver and the verbs that the cases share. */
export type Bench = {
  readonly driver: StorageDriver;
  readonly factory: DriverFactory;
  readonly home: string;
  readonly pool: Pool;
  /** Stages `layer`, lets `fill` work in the mounted tree, commits. */
  layer(layer: LayerRef, fill?: (tree: string) => void): Promise<void>;
  /** Mounts a view for `use`. */
  view<T>(layer: LayerRef, kind: "layer" | "writable", use: (tree: string) => T): Promise<T>;
  writable(layer: LayerRef): Promise<void>;
};

/** Registers the suite with node:test. */
export function runConformance({ name, factory, makeHome }: ConformanceOptions): void {
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
    });
    for (const [title, run] of conformanceCases)
      test(title, async () => {
        const home = join(base.path, `case-${cases++}`);
        const driver = await factory.open(home, {}, { pool });
        const folders = picture(home);
        const scratch = mkdtempSync(join(tmpdir(), "conformance-"));
        await run(makeBench({ driver, factory, home, pool }, scratch));
        await clear(driver);
        assert.deepEqual(await driver.list(), [], "an id is left");
        assert.deepEqual(picture(home), folders, "a file is left");
        await driver[Symbol.asyncDispose]();
        const mounts = mountTable().filter(({ target }) => target.startsWith(home) || target.startsWith(scratch));
        assert.deepEqual(mounts, [], "a mount is left");
        rmdirSync(scratch);
        rmSync(home, { recursive: true });
      });
  });
}

type BenchParts = Pick<Bench, "driver" | "factory" | "home" | "pool">;

function makeBench(parts: BenchParts, scratch: string): Bench {
  const { driver } = parts;
  let views = 0;
  const mounted = <T>(mounts: Parameters<typeof mountAll>[0], use: (tree: string) => T): T => {
    const target = join(scratch, `view-${views++}`);
    mkdirSync(target);
    try {
      mountAll(mounts, target);
      return use(target);
    } finally {
      unmountAll(target);
      rmdirSync(target);
    }
  };
  return {
    ...parts,
    async layer(layer, fill) {
      const { mounts } = await driver.stage(layer);
      if (fill !== undefined) mounted(mounts, fill);
      await driver.commit(layer);
    },
    async view(layer, kind, use) {
      return mounted(await driver.mounts(layer, kind), use);
    },
    async writable(layer) {
      await driver.createWritable(layer, {});
    },
  };
}

async function clear(driver: StorageDriver): Promise<void> {
  for (const id of await driver.list()) await driver.remove(id);
  await driver.sweep();
}

/** Every path below a home, without what a subvolume's number would tell. */
function picture(home: string): string[] {
  return readdirSync(home, { recursive: true, encoding: "utf8" }).toSorted();
}

/** Sets all mode bits, whatever the umask. */
export function makeDirectory(path: string, mode = 0o755): void {
  mkdirSync(path, { recursive: true });
  chmodSync(path, mode);
}

export const modeOf = (path: string): number => lstatSync(path).mode & 0o7777;
