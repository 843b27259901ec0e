/** Cases of the conformance suite about the life of ids: depth, views, writables, removal, refusals, probing. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, existsSync, readdirSync, rmSync, unlinkSync, writeFileSync } from "node:fs";
import { isAbsolute, join } from "node:path";
import { isError } from "../base/errors.ts";
import { pictureOf } from "../host/tree-picture.ts";
import { type ConformanceCase, fillBase, makeDirectory, one, text, three, two } from "./conformance-bench.ts";

export const lifeCases: readonly ConformanceCase[] = [
  [
    "128 layers can be mounted and read through, and written over",
    async ({ driver, layer, view, writable }) => {
      const depth = Math.min(128, driver.traits.maxParents);
      const ids: string[] = [];
      for (let index = 0; index < depth; index++) {
        await layer({ id: `l${index}`, parents: ids }, (tree) => {
          writeFileSync(join(tree, `file-${index}`), `${index}`);
          writeFileSync(join(tree, "shared"), `${index}`);
        });
        ids.unshift(`l${index}`);
      }
      await writable({ id: "top", parents: ids });
      await view({ id: "top", parents: ids }, "writable", (tree) => {
        for (let index = 0; index < depth; index++) assert.equal(text(join(tree, `file-${index}`)), `${index}`);
        assert.equal(text(join(tree, "shared")), `${depth - 1}`);
        writeFileSync(join(tree, "file-0"), "over");
      });
    },
  ],
  [
    "the view of a layer cannot be written",
    async ({ layer, view }) => {
      await layer(one, fillBase);
      await layer(two, (tree) => writeFileSync(join(tree, "more"), ""));
      for (const ref of [one, two])
        await view(ref, "layer", (tree) => {
          for (const attempt of [
            () => writeFileSync(join(tree, "new"), ""),
            () => unlinkSync(join(tree, "a file")),
            () => chmodSync(join(tree, "a subdir"), 0o777),
          ])
            assert.throws(attempt, { code: "EROFS" });
        });
    },
  ],
  [
    "writables keep what is written, apart from each other and from the image",
    async ({ layer, view, writable }) => {
      await layer(one, fillBase);
      const image = await view(one, "layer", pictureOf);
      const [first, second] = [
        { id: "first", parents: ["one"] },
        { id: "second", parents: ["one"] },
      ];
      await writable(first);
      await writable(second);
      await view(first, "writable", (tree) => {
        writeFileSync(join(tree, "a file"), "changed");
        rmSync(join(tree, "deep"), { recursive: true });
      });
      await view(first, "writable", (tree) => {
        assert.equal(text(join(tree, "a file")), "changed");
        assert.equal(existsSync(join(tree, "deep")), false);
      });
      assert.deepEqual(await view(second, "writable", pictureOf), image);
      assert.deepEqual(await view(one, "layer", pictureOf), image);
    },
  ],
  [
    "everything in a writable can be listed and deleted",
    async ({ layer, view, writable }) => {
      await layer(one, fillBase);
      await layer(two, (tree) => {
        rmSync(join(tree, "deep/same"));
        rmSync(join(tree, "a subdir"), { recursive: true });
        makeDirectory(join(tree, "a subdir/new"));
      });
      await writable(three);
      await view(three, "writable", (tree) => {
        assert.doesNotMatch(execFileSync("ls", ["-lR", tree], { encoding: "utf8" }), /\?/);
        for (const name of readdirSync(tree)) execFileSync("rm", ["-r", join(tree, name)]);
        assert.deepEqual(readdirSync(tree), []);
      });
    },
  ],
  [
    "changes that a driver shows apart are what the writable changed; one that keeps whole trees shows none",
    async ({ driver, layer, view, writable, mounted }) => {
      await layer(one, fillBase);
      await writable(two);
      await view(two, "writable", (tree) => writeFileSync(join(tree, "a subdir/new"), "123"));
      const changes = driver.changes(two);
      if (changes === undefined) return;
      assert.equal(driver.traits.keeps, "diff");
      const seen = (path: string): void =>
        assert.deepEqual(readdirSync(path, { recursive: true }).toSorted(), ["a subdir", "a subdir/new"]);
      if (changes.mounts === undefined) seen(changes.path);
      else await mounted(changes.mounts, (tree) => seen(join(tree, changes.path)));
    },
  ],
  [
    "remove takes an id out of sight at once, is idempotent, and sweep deletes",
    async ({ driver, layer, view, writable }) => {
      await layer(one, fillBase);
      await writable(two);
      await view(two, "writable", (tree) => makeDirectory(join(tree, "a/b/c/d"), 0));
      await driver.remove("two");
      assert.deepEqual(await driver.list(), ["one"]);
      await driver.remove("two");
      await driver.remove("never-was");
      assert.equal(await driver.sweep(), 1);
      assert.equal(await driver.sweep(), 0);
      assert.deepEqual(await view(one, "layer", (tree) => readdirSync(tree).length), 7);
    },
  ],
  [
    "a removed id can be made again",
    async ({ driver, layer, view }) => {
      await layer(one, (tree) => writeFileSync(join(tree, "old"), ""));
      await driver.remove("one");
      await layer(one, (tree) => writeFileSync(join(tree, "new"), ""));
      assert.deepEqual(await view(one, "layer", (tree) => readdirSync(tree)), ["new"]);
    },
  ],
  [
    "a stage that was left is listed and can be removed",
    async ({ driver, layer }) => {
      await layer(one);
      await driver.stage({ id: "left", parents: [] });
      await driver.stage({ id: "left-child", parents: ["one"] });
      assert.deepEqual([...(await driver.list())].sort(), ["left", "left-child", "one"]);
      await driver.remove("left");
      await driver.remove("left-child");
      assert.deepEqual(await driver.list(), ["one"]);
    },
  ],
  [
    "two stages over one parent at once do not meet",
    async ({ layer, view }) => {
      await layer(one, fillBase);
      await Promise.all(
        ["left", "right"].map((id) => layer({ id, parents: ["one"] }, (tree) => writeFileSync(join(tree, id), id))),
      );
      const right = await view({ id: "right", parents: ["one"] }, "layer", (tree) => readdirSync(tree));
      assert.equal(right.includes("right"), true);
      assert.equal(right.includes("left"), false);
    },
  ],
  [
    "an option that the driver does not keep is refused, and nothing stays",
    async ({ driver, factory, home, pool }) => {
      const refused = (error: unknown): boolean => isError(error, "invalid_argument") && error.message.length > 10;
      await assert.rejects(driver.createWritable({ id: "x", parents: [] }, { nonsense: "1" }), refused);
      await assert.rejects(factory.open(`${home}-other`, { nonsense: "1" }, { pool }), refused);
      assert.equal(existsSync(`${home}-other`), false);
      assert.deepEqual(await driver.list(), []);
    },
  ],
  [
    "an id that is a path is refused",
    async ({ driver }) => {
      for (const id of ["", ".", "..", "../out", "a/b", "trash", "staging", "-x", "nul\0"])
        await assert.rejects(driver.stage({ id, parents: [] }), { code: "invalid_argument" });
    },
  ],
  [
    "probing says that the driver works here and leaves nothing",
    async ({ factory, home }) => {
      assert.equal(await factory.probe(`${home}/probed/deeper`), undefined);
      assert.equal(existsSync(`${home}/probed`), false);
    },
  ],
  [
    "describe and status tell absolute paths of folders, and pairs of words",
    async ({ driver, layer }) => {
      await layer(one);
      const described = driver.describe(one, "layer");
      for (const [key, value] of Object.entries(described))
        assert.equal(/Dir$|^Mountpoint$/.test(key) ? isAbsolute(value) : value !== "", true, `${key} ${value}`);
      for (const row of await driver.status()) assert.equal(row.length, 2);
    },
  ],
];
