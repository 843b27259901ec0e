import assert from "node:assert/strict";
import {
  appendFileSync,
  chmodSync,
  linkSync,
  lstatSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import fc from "fast-check";
import { compareTrees } from "../../archive/compare-trees.ts";
import { setReadOnly } from "../../host/btrfs.ts";
import type { Pool } from "../../host/pool.ts";
import { makeSubvolumeTask } from "../../host/subvolume-task.ts";
import { createPool } from "../../host/worker-pool.ts";
import type { LayerRef, StorageDriver } from "../driver.ts";
import { assertFound, fillBase, kinds, type Operations, operationOf, perform } from "../random-operations.fixture.ts";
import { loopHome } from "../scratch-home.ts";
import { btrfs } from "./driver.ts";

let loop: Awaited<ReturnType<typeof loopHome>>;
let pool: Pool;
let driver: StorageDriver;
let made = 0;
before(async () => {
  loop = await loopHome("btrfs");
  pool = createPool({ size: 1 });
  driver = await btrfs.open(join(loop.path, "btrfs"), {}, { pool });
});
after(async () => {
  await driver[Symbol.asyncDispose]();
  await pool[Symbol.asyncDispose]();
  await loop[Symbol.asyncDispose]();
});

type Pair = AsyncDisposable & { readonly ref: LayerRef; readonly base: string; readonly tree: string };

/** A layer and a container's layer over it, both to be used in place. */
async function pairOf(fill: (tree: string) => void): Promise<Pair> {
  const [id, parent] = [`top${++made}`, `base${made}`];
  await driver.stage({ id: parent, parents: [] });
  fill(join(driver.home, "staging", parent));
  await driver.commit({ id: parent, parents: [] });
  const ref = { id, parents: [parent] };
  await driver.createWritable(ref, {});
  const at = (name: string): string => join(driver.home, "subvolumes", name);
  return {
    ref,
    base: at(parent),
    tree: at(id),
    [Symbol.asyncDispose]: async () => {
      for (const name of [id, parent]) await driver.remove(name);
      await driver.sweep();
    },
  };
}

async function candidatesOf({ ref }: Pair): Promise<readonly string[]> {
  const candidates = await driver.candidates?.(ref);
  assert.ok(candidates !== undefined, "the changes were not searched");
  return candidates;
}

const subvolume = (at: string): void => {
  makeSubvolumeTask({ path: at });
  writeFileSync(join(at, "a"), "in a subvolume");
};
const all: Operations = { ...kinds, subvolume };

/** A time that somebody set is no reading. */
function utimesAccess(at: string): void {
  utimesSync(at, 5000, lstatSync(at).mtimeMs / 1000);
}

test("what is found by generations is what a walk of both trees finds, whatever a container did", async () => {
  const numRuns = Number(process.env.FC_RUNS ?? 60);
  let differences = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(operationOf(all), { maxLength: 6 }),
      fc.array(operationOf(all), { minLength: 1, maxLength: 12 }),
      async (earlier, during) => {
        await using pair = await pairOf((root) => {
          fillBase(root);
          // A layer comes from a tar, which makes no subvolumes.
          for (const one of earlier) if (one.kind !== "subvolume") perform(all, root, one);
        });
        for (const one of during) perform(all, pair.tree, one);
        const candidates = await candidatesOf(pair);
        differences += await assertFound(pair, candidates);
      },
    ),
    { numRuns },
  );
  assert.ok(differences > numRuns, "the operations did nothing");
});

test("only what was touched is listed, and its directory", async () => {
  await using pair = await pairOf(fillBase);
  assert.deepEqual(await candidatesOf(pair), []);
  writeFileSync(join(pair.tree, "a/b/new"), "x");
  chmodSync(join(pair.tree, "b/c/a"), 0o600);
  rmSync(join(pair.tree, "c/d\u00e9/b"));
  const listed = [...(await candidatesOf(pair))].sort();
  assert.deepEqual(listed, ["a/b", "a/b/new", "b/c/a", Buffer.from("c/d\u00e9").toString("latin1")]);
});

test("content that was written over with size and time restored is listed too", async () => {
  await using pair = await pairOf(fillBase);
  kinds.overwrite(join(pair.tree, "a/b/a"));
  assert.deepEqual(await candidatesOf(pair), ["a/b/a"]);
});

test("what was only read is not listed", async () => {
  await using pair = await pairOf(fillBase);
  utimesAccess(join(pair.tree, "a"));
  assert.deepEqual(readFileSync(join(pair.tree, "b/b/b"), "utf8"), "bbb");
  assert.equal(readdirSync(pair.tree, { recursive: true }).length, 4 + 16 + 32);
  // The first touch of a snapshot's root writes more than the time.
  const listed = (await candidatesOf(pair)).filter((name) => name !== "");
  assert.deepEqual(listed, ["a"]);
});

test("every name of a file with many is listed when it changes", async () => {
  await using pair = await pairOf((root) => {
    fillBase(root);
    // Enough for references beside the inode's first block of them.
    for (let index = 0; index < 600; index++) linkSync(join(root, "a/a/a"), join(root, "b", `link-${index}`));
  });
  chmodSync(join(pair.tree, "a/a/a"), 0o600);
  assert.equal((await candidatesOf(pair)).length, 601);
});

test("a directory that took another's place is walked, though nobody touched its files", async () => {
  await using pair = await pairOf((root) => {
    fillBase(root);
    for (const name of ["a", "b"]) appendFileSync(join(root, "a/b", name), "another size");
  });
  kinds.replace(join(pair.tree, "a/b"), join(pair.tree, "b/c"));
  const candidates = await candidatesOf(pair);
  const changed = compareTrees(pair.base, pair.tree, { candidates });
  assert.deepEqual(
    changed.map((change) => change.path),
    ["/a", "/a/b", "/b", "/b/c", "/b/c/a", "/b/c/b"],
  );
});

test("a parent that changed since, or another one, is not trusted: everything is compared", async () => {
  await using pair = await pairOf(fillBase);
  await using stranger = await pairOf(fillBase);
  assert.equal(await driver.candidates?.({ ...pair.ref, parents: stranger.ref.parents }), undefined);
  assert.equal(await driver.candidates?.({ ...pair.ref, parents: [] }), undefined);
  setReadOnly(pair.base, false);
  writeFileSync(join(pair.base, "late"), "");
  setReadOnly(pair.base, true);
  assert.equal(await driver.candidates?.(pair.ref), undefined);
});
