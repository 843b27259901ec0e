/** Cases of the conformance suite about `cloneWritable`; a driver without it has nothing to prove. */
import assert from "node:assert/strict";
import { chmodSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pictureOf } from "../host/tree-picture.ts";
import { type Bench, type ConformanceCase, fillBase, one } from "./conformance-bench.ts";
import type { LayerRef } from "./driver.ts";

const source = { id: "source", parents: ["one"] };
const copy = { id: "copy", parents: ["one"] };

/** A writable that has changed, hidden and replaced things of its parent. */
async function changed({ layer, view, writable }: Bench): Promise<void> {
  await layer(one, fillBase);
  await writable(source);
  await view(source, "writable", (tree) => {
    rmSync(join(tree, "a link"));
    rmSync(join(tree, "deep"), { recursive: true });
    mkdirSync(join(tree, "deep/new"), { recursive: true });
    writeFileSync(join(tree, "deep/new/file"), Buffer.alloc(500_000, "n"));
    writeFileSync(join(tree, "a file"), "changed");
    chmodSync(join(tree, "a subdir"), 0o700);
  });
}

async function clone({ driver }: Bench, options: Readonly<Record<string, string>> = {}): Promise<boolean> {
  return (await driver.cloneWritable?.(source, copy, options)) === true;
}

const pictureIn = (bench: Bench, layer: LayerRef): Promise<string[]> => bench.view(layer, "writable", pictureOf);

export const cloneCases: readonly ConformanceCase[] = [
  [
    "clone: it shows what its source shows, and neither sees what the other does from then on",
    async (bench) => {
      await changed(bench);
      if (!(await clone(bench))) return;
      const before = await pictureIn(bench, source);
      assert.deepEqual(await pictureIn(bench, copy), before);
      await bench.view(copy, "writable", (tree) => {
        writeFileSync(join(tree, "deep/new/file"), "of the copy");
        rmSync(join(tree, "disk"));
      });
      assert.deepEqual(await pictureIn(bench, source), before);
      await bench.view(source, "writable", (tree) => writeFileSync(join(tree, "later"), "x"));
      assert.equal(
        (await pictureIn(bench, copy)).some((line) => line.startsWith("/later")),
        false,
      );
    },
  ],
  [
    "clone: it stays when its source goes, and can be cloned itself",
    async (bench) => {
      await changed(bench);
      if (!(await clone(bench))) return;
      const before = await pictureIn(bench, source);
      await bench.driver.remove("source");
      await bench.driver.sweep();
      assert.deepEqual(await pictureIn(bench, copy), before);
      const again = { id: "again", parents: ["one"] };
      assert.equal(await bench.driver.cloneWritable?.(copy, again, {}), true);
      assert.deepEqual(await pictureIn(bench, again), before);
    },
  ],
  [
    "clone: an option that the driver does not keep is refused, and nothing stays",
    async (bench) => {
      await changed(bench);
      if (bench.driver.cloneWritable === undefined) return;
      await assert.rejects(clone(bench, { nonsense: "1" }), { code: "invalid_argument" });
      assert.equal((await bench.driver.list()).includes("copy"), false);
    },
  ],
];
