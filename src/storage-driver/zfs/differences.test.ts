/** What `zfs diff` says, read; and, where the kernel has ZFS, what is found by it against walks of both trees. */
import assert from "node:assert/strict";
import {
  appendFileSync,
  chmodSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import fc from "fast-check";
import { compareTrees } from "../../archive/compare-trees.ts";
import { mountAll, unmountAll } from "../../host/mount.ts";
import type { Pool } from "../../host/pool.ts";
import { createPool } from "../../host/worker-pool.ts";
import { isZfsInKernel } from "../../host/zfs-dataset.ts";
import type { LayerRef, StorageDriver } from "../driver.ts";
import { assertFound, fillBase, kinds, type Operations, operationOf, perform } from "../random-operations.fixture.ts";
import { parseDifferences } from "./differences.ts";
import { zfs } from "./driver.ts";
import { type ZfsHome, zfsHome } from "./zfs-pool.fixture.ts";

test("lines of zfs diff become paths below the mount, each once, byte for byte", () => {
  const text = [
    "M\t/m\\0040t/",
    "M\t/m\\0040t/a\t(+1)",
    "-\t/m\\0040t/b",
    "+\t/m\\0040t/d\\0303\\0251/x\\0011y",
    "R\t/m\\0040t/old\t/m\\0040t/new",
    "+\t/m\\0040t/f/<xattr>/user.note",
    "-\t/m\\0040t/(on_delete_queue)",
    "",
  ].join("\n");
  const paths = parseDifferences(text, ["/elsewhere", "/m t"]);
  assert.deepEqual(paths, ["", "a", "b", "d\xc3\xa9/x\ty", "old", "new", "f/<xattr>/user.note", "f"]);
  assert.deepEqual(parseDifferences("", ["/m"]), []);
});

test("a line that is not known, or of another place, tells nothing", () => {
  for (const text of ["?\t/m/a", "M", "M\t/other/a", "M\t/mm/a", "M\t/m/a\t/m/b\t/m/c", "cannot diff"])
    assert.equal(parseDifferences(text, ["/m"]), undefined, text);
});

// The suite of `npm run test:vm` runs this file where the kernel has ZFS.
if (isZfsInKernel()) describe("changes by zfs diff", inKernel);

function inKernel(): void {
  let home: ZfsHome;
  let pool: Pool & AsyncDisposable;
  let driver: StorageDriver;
  let made = 0;
  before(async () => {
    home = await zfsHome();
    pool = createPool({ size: 1 });
    driver = await zfs.open(join(home.path, "home"), {}, { pool });
  });
  after(async () => {
    await pool[Symbol.asyncDispose]();
    await home[Symbol.asyncDispose]();
  });

  type Pair = AsyncDisposable & { readonly ref: LayerRef; readonly base: string; readonly tree: string };

  async function view(layer: LayerRef, kind: "layer" | "writable"): Promise<AsyncDisposable & { path: string }> {
    const path = mkdtempSync(join(tmpdir(), "a view-"));
    mountAll(await driver.mounts(layer, kind), path);
    return {
      path,
      async [Symbol.asyncDispose]() {
        unmountAll(path);
        rmdirSync(path);
      },
    };
  }

  /** A layer, and a container's layer over it, both mounted as they are for a comparison. */
  async function pairOf(fill: (tree: string) => void): Promise<Pair> {
    await using stack = new AsyncDisposableStack();
    const [id, parent] = [`top${++made}`, `base${made}`];
    stack.defer(async () => {
      for (const name of [id, parent]) await driver.remove(name);
      await driver.sweep();
    });
    const layer = { id: parent, parents: [] };
    const stage = await driver.stage(layer);
    const target = mkdtempSync(join(tmpdir(), "stage-"));
    mountAll(stage.mounts, target);
    try {
      fill(target);
    } finally {
      unmountAll(target);
      rmdirSync(target);
    }
    await driver.commit(layer);
    const ref = { id, parents: [parent] };
    await driver.createWritable(ref, {});
    const base = stack.use(await view(layer, "layer")).path;
    const tree = stack.use(await view(ref, "writable")).path;
    const kept = stack.move();
    return { ref, base, tree, [Symbol.asyncDispose]: () => kept.disposeAsync() };
  }

  const runs = { numRuns: Number(process.env.FC_RUNS ?? 60) };

  async function told(operations: Operations): Promise<{ readonly told: number; readonly differences: number }> {
    const seen = { told: 0, differences: 0 };
    const some = operationOf(operations);
    await fc.assert(
      fc.asyncProperty(
        fc.array(some, { maxLength: 6 }),
        fc.array(some, { minLength: 1, maxLength: 12 }),
        async (earlier, during) => {
          await using pair = await pairOf((root) => {
            fillBase(root);
            for (const one of earlier) perform(operations, root, one);
          });
          for (const one of during) perform(operations, pair.tree, one);
          const candidates = await driver.candidates?.(pair.ref);
          if (candidates === undefined) return;
          seen.told++;
          seen.differences += await assertFound(pair, candidates);
        },
      ),
      runs,
    );
    return seen;
  }

  test("it is what a walk of both trees finds, whatever a container did to files with one name", async (t) => {
    const { link: _, ...single } = kinds;
    const seen = await told(single);
    t.diagnostic(JSON.stringify(seen));
    assert.equal(seen.told, runs.numRuns, "it is always told");
    assert.ok(seen.differences > runs.numRuns, "the operations did nothing");
  });

  test("it is what a walk finds with links, too, or nothing is told", async (t) => {
    const seen = await told({ ...kinds, again: kinds.link, more: kinds.link });
    t.diagnostic(JSON.stringify(seen));
  });

  test("only what was touched is told, and its directory", async () => {
    await using pair = await pairOf(fillBase);
    assert.deepEqual(await driver.candidates?.(pair.ref), []);
    writeFileSync(join(pair.tree, "a/b/new"), "x");
    chmodSync(join(pair.tree, "b/c/a"), 0o600);
    rmSync(join(pair.tree, "c/d\u00e9/b"));
    kinds.overwrite(join(pair.tree, "a/a/a"));
    const listed = [...((await driver.candidates?.(pair.ref)) ?? [])].sort();
    const accented = Buffer.from("c/d\u00e9").toString("latin1");
    assert.deepEqual(listed, ["a/a/a", "a/b", "a/b/new", "b/c/a", accented, `${accented}/b`]);
  });

  test("a changed file with several names is found by every one of them", async () => {
    await using pair = await pairOf((root) => {
      fillBase(root);
      mkdirSync(join(root, "far"));
      linkSync(join(root, "a/a/a"), join(root, "far/away"));
    });
    appendFileSync(join(pair.tree, "a/a/a"), "more");
    const candidates = await driver.candidates?.(pair.ref);
    assert.equal(candidates, undefined);
    const changed = compareTrees(pair.base, pair.tree, { candidates }).map(({ path }) => path);
    assert.ok(changed.includes("/far/away") && changed.includes("/a/a/a"), changed.join());
  });

  test("a fork's changes are told against the image, before and after it took its source's place", async () => {
    await using pair = await pairOf(fillBase);
    writeFileSync(join(pair.tree, "one"), "1");
    const fork = { id: `fork${made}`, parents: pair.ref.parents };
    assert.equal(await driver.cloneWritable?.(pair.ref, fork, {}), true);
    {
      await using tree = await view(fork, "writable");
      writeFileSync(join(tree.path, "two"), "2");
      assert.deepEqual([...((await driver.candidates?.(fork)) ?? [])].sort(), ["", "one", "two"]);
    }
    await driver.remove(pair.ref.id);
    unmountAll(pair.tree);
    assert.equal(await driver.sweep(), 1);
    await using tree = await view(fork, "writable");
    assert.deepEqual([...((await driver.candidates?.(fork)) ?? [])].sort(), ["", "one", "two"]);
    assert.ok(readdirSync(tree.path).includes("one"));
    await driver.remove(fork.id);
  });

  test("what is not mounted, and another parent, tell nothing", async () => {
    await using pair = await pairOf(fillBase);
    await using stranger = await pairOf(fillBase);
    assert.equal(await driver.candidates?.({ ...pair.ref, parents: stranger.ref.parents }), undefined);
    assert.equal(await driver.candidates?.({ ...pair.ref, parents: [] }), undefined);
    unmountAll(pair.tree);
    assert.equal(await driver.candidates?.(pair.ref), undefined);
    mountAll(await driver.mounts(pair.ref, "writable"), pair.tree);
  });
}
