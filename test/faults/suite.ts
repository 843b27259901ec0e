/**
 * The faults of one driver: every verb of the layer store, on a host that fails call N. `STRATA_FAULTS=all` tries every N on every
 * driver with every errno, and disks that stay broken from call N on; otherwise `every` says whether all or some are tried.
 * `STRATA_SEED` chooses which.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { Pool } from "../../src/host/pool.ts";
import type { DriverFactory } from "../../src/storage-driver/driver.ts";
import { seededRandom } from "../support/random.ts";
import { faultsRoot } from "./faulty-host.ts";

// After the faulty host: what these load binds the functions that it wraps.
const { createPool } = await import("../../src/host/worker-pool.ts");
const { makeLoopFilesystem } = await import("../../src/host/loop.ts");
const { FaultStore } = await import("./fault-store.ts");
const { zfsHome } = await import("../../src/storage-driver/zfs/zfs-pool.fixture.ts");
const { runVerb } = await import("./run-verb.ts");
const { verbs } = await import("./verbs.ts");

const all = process.env.STRATA_FAULTS === "all";
const seed = Number(process.env.STRATA_SEED ?? Date.now() % 2 ** 31);
const random = seededRandom(seed);
/** The whole takes some ten minutes for each driver on a quiet machine. */
const timeout = all ? 14_400_000 : 600_000;

export type FaultSuite = {
  readonly factory: DriverFactory;
  readonly filesystem: "tmpfs" | "btrfs" | "ext4" | "zfs";
  /** True where each call is failed also in the short form. */
  readonly every: boolean;
  /** Programs are run for every change: the short form tries few. */
  readonly slow?: boolean;
};

let pool: Pool & AsyncDisposable;
before(() => {
  execFileSync("mount", ["-t", "tmpfs", "tmpfs", faultsRoot]);
  // One thread, so that its calls come in one order; it stays, so that none is counted that starts a thread.
  pool = createPool({ size: 1, idleMs: 3_600_000 });
});
after(async () => {
  await pool[Symbol.asyncDispose]();
  execFileSync("umount", ["--lazy", faultsRoot]);
  execFileSync("rmdir", [faultsRoot]);
});

async function folderOn({ factory, filesystem }: FaultSuite, stack: AsyncDisposableStack): Promise<string> {
  let base = faultsRoot;
  if (filesystem === "zfs") base = stack.use(await zfsHome(faultsRoot)).path;
  else if (filesystem !== "tmpfs")
    base = stack.use(await makeLoopFilesystem({ type: filesystem, size: 512 << 20, directory: faultsRoot })).path;
  const folder = join(base, factory.name);
  mkdirSync(folder);
  return folder;
}

/** The reporter keeps what a test says until it ends; the whole takes long. */
const say = (line: string): void => void process.stderr.write(`${new Date().toISOString().slice(11, 19)} ${line}\n`);

/** One call of so many in a row. */
const sample = (oneIn: number): ((at: number) => boolean) => {
  const rows = Math.ceil(5000 / oneIn);
  const chosen = new Set(Array.from({ length: rows }, (_, row) => Math.floor((row + random()) * oneIn)));
  return (at) => chosen.has(at);
};

type Form = { readonly title: string; readonly onward: boolean; readonly oneIn: number; readonly turns: number };

const formsOf = ({ every, slow }: FaultSuite): readonly Form[] => {
  if (slow === true && !all) return [{ title: "one call fails", onward: false, oneIn: 50, turns: 1 }];
  return [
    { title: "one call fails", onward: false, oneIn: all || every ? 1 : 12, turns: all ? 4 : 1 },
    { title: "every call from one on fails", onward: true, oneIn: all ? 1 : every ? 40 : 80, turns: 1 },
  ];
};

/** Registers the tests. */
export function faultSuite(suite: FaultSuite): void {
  for (const form of formsOf(suite))
    test(`${suite.factory.name}: ${form.title}, and the layer store keeps its promises (seed ${seed})`, {
      timeout,
    }, async (t) => {
      let failed = 0;
      let told = 0;
      const calls = new Map<string, number>();
      await using stack = new AsyncDisposableStack();
      await using world = await FaultStore.make(suite.factory, await folderOn(suite, stack), pool);
      for (let turn = 0; turn < form.turns; turn++)
        for (const verb of verbs) {
          const count = await runVerb(world, verb, {
            onward: form.onward,
            turn,
            everyWhole: all ? 10 : 60,
            ...(form.oneIn === 1 ? {} : { picks: sample(form.oneIn) }),
            report: (tried) => {
              failed++;
              if (tried.failed) told++;
              const name = tried.label.split(" ")[0] ?? "";
              calls.set(name, (calls.get(name) ?? 0) + 1);
            },
          });
          if (all) say(`${suite.factory.name}, ${form.title}, turn ${turn + 1}: ${verb.name}: ${count} calls`);
        }
      const kinds = [...calls].sort(([, a], [, b]) => b - a).map(([name, count]) => `${name} ${count}`);
      t.diagnostic(`${failed} calls failed, ${told} were told; ${kinds.join(", ")}`);
      assert.ok(failed >= (form.oneIn === 1 ? 900 * form.turns : 4), "calls were failed");
    });
}
