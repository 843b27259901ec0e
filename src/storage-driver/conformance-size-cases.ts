/** Cases of the conformance suite about the optional contract of size-limit.ts; a driver without it refuses the option. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { closeSync, fsyncSync, openSync, readdirSync, rmSync, statSync, writeSync } from "node:fs";
import { join } from "node:path";
import { systemCode } from "../base/errors.ts";
import { pictureOf } from "../host/tree-picture.ts";
import { type Bench, type ConformanceCase, fillBase, one, text } from "./conformance-bench.ts";
import { sizeOption } from "./size-limit.ts";

const mebibyte = 1 << 20;
const limit = 32;
const limited = { id: "limited", parents: ["one"] };

export const sizeCases: readonly ConformanceCase[] = [
  [
    "size limit: half of it can be written, more cannot, and the layer stays usable",
    async (bench) => {
      const { driver, layer, view } = bench;
      await layer(one, fillBase);
      if (!keepsSize(bench)) return refuses(bench);
      await driver.createWritable(limited, { size: `${limit}m` });
      assert.deepEqual(await view(limited, "writable", pictureOf), await view(one, "layer", pictureOf));
      await view(limited, "writable", (tree) => {
        assert.equal(write(join(tree, "half"), limit / 2), undefined);
        assert.match(write(join(tree, "more"), 2 * limit) ?? "nothing failed", /^(EDQUOT|ENOSPC)$/);
        assert.equal(statSync(join(tree, "half")).size, (limit / 2) * mebibyte);
        assert.equal(text(join(tree, "a file")), "hello");
        assert.ok(readdirSync(tree).length > 7);
      });
    },
  ],
  [
    "size limit: other layers notice nothing of one that is full",
    async (bench) => {
      const { driver, layer, view, writable } = bench;
      await layer(one, fillBase);
      if (!keepsSize(bench)) return refuses(bench);
      const free = { id: "free", parents: ["one"] };
      await driver.createWritable(limited, { size: `${limit}m` });
      await writable(free);
      await view(limited, "writable", (tree) => assert.ok(write(join(tree, "all"), 2 * limit)));
      await view(free, "writable", (tree) => assert.equal(write(join(tree, "all"), 2 * limit), undefined));
    },
  ],
  [
    "size limit: it goes with the layer, and with it the room",
    async (bench) => {
      const { driver, layer, view, writable } = bench;
      await layer(one, fillBase);
      if (!keepsSize(bench)) return refuses(bench);
      for (let round = 0; round < 2; round++) {
        await driver.createWritable(limited, { SIZE: `${limit}m` });
        await view(limited, "writable", (tree) => {
          assert.ok(write(join(tree, "all"), 2 * limit));
          rmSync(join(tree, "all"));
        });
        await driver.remove("limited");
        await driver.sweep();
      }
      await writable(limited);
      await view(limited, "writable", (tree) => assert.equal(write(join(tree, "all"), 2 * limit), undefined));
    },
  ],
  [
    "size limit: what is no size is refused, and nothing stays",
    async (bench) => {
      const { driver } = bench;
      for (const size of ["0", "x", "", "-5m"])
        await assert.rejects(driver.createWritable({ id: "x", parents: [] }, { size }), { code: "invalid_argument" });
      assert.deepEqual(await driver.list(), []);
    },
  ],
];

const keepsSize = ({ driver }: Bench): boolean => driver.traits.containerOptions.includes(sizeOption);

const refuses = ({ driver }: Bench): Promise<void> =>
  assert.rejects(driver.createWritable(limited, { size: "32m" }), { code: "invalid_argument" });

/** Writes so many MiB that do not compress, and makes them durable; returns the code of what failed. */
function write(path: string, mebibytes: number): string | undefined {
  const file = openSync(path, "w");
  try {
    for (let written = 0; written < mebibytes; written++) {
      writeSync(file, randomBytes(mebibyte));
      fsyncSync(file);
    }
    return undefined;
  } catch (error) {
    return systemCode(error) ?? String(error);
  } finally {
    closeSync(file);
  }
}
