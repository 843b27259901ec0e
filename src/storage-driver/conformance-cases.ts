/** The cases of the conformance suite (see conformance.ts): a sentence and what proves it. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  lchownSync,
  linkSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { isAbsolute, join } from "node:path";
import { isError, systemCode } from "../base/errors.ts";
import { AT_FDCWD, mknodat, setXattr } from "../host/sys.ts";
import { type Bench, makeDirectory, modeOf } from "./conformance.ts";
import { pictureOf } from "./tree-picture.ts";

type Case = readonly [title: string, run: (bench: Bench) => Promise<void>];

/** moby's graphtest base, with every kind of entry. */
function fillBase(tree: string): void {
  const at = (name: string): string => join(tree, name);
  writeFileSync(at("a file"), "hello");
  chmodSync(at("a file"), 0o4755);
  chownSync(at("a file"), 1, 2);
  chmodSync(at("a file"), 0o4755);
  makeDirectory(at("a subdir"), 0o1705);
  chownSync(at("a subdir"), 1, 2);
  symlinkSync("../target with spaces", at("a link"));
  lchownSync(at("a link"), 3, 4);
  mkdirSync(at("deep/er/still"), { recursive: true });
  writeFileSync(at("deep/er/still/large"), Buffer.alloc(300_000, "x"));
  linkSync(at("deep/er/still/large"), at("deep/same"));
  mknodat(AT_FDCWD, at("null"), 0o020666, 1, 3);
  mknodat(AT_FDCWD, at("disk"), 0o060640, 7, 200);
  mknodat(AT_FDCWD, at("pipe"), 0o010600, 0, 0);
  setXattr(AT_FDCWD, at("a file"), "user.note", Buffer.from("kept"));
  setXattr(AT_FDCWD, at("a subdir"), "trusted.note", Buffer.from([0, 1, 255]));
  setXattr(
    AT_FDCWD,
    at("deep/same"),
    "security.capability",
    Buffer.from("0100000200040000000000000000000000000000", "hex"),
  );
  for (const name of ["deep/same", "a link", "pipe", "a subdir", "deep"]) lutimesSync(at(name), 1000, 1234.5);
}

/** rename(2), or what mv does where a directory of a lower layer cannot be renamed. */
function move(from: string, to: string): void {
  try {
    renameSync(from, to);
  } catch (error) {
    if (systemCode(error) !== "EXDEV") throw error;
    cpSync(from, to, { recursive: true, verbatimSymlinks: true });
    rmSync(from, { recursive: true });
  }
}

const one = { id: "one", parents: [] };
const two = { id: "two", parents: ["one"] };
const three = { id: "three", parents: ["two", "one"] };
const text = (path: string): string => readFileSync(path, "utf8");

export const conformanceCases: readonly Case[] = [
  [
    "an empty layer is an empty directory, 0755 and root's",
    async ({ layer, view }) => {
      await layer(one);
      await view(one, "layer", (tree) => {
        const { uid, gid } = lstatSync(tree);
        assert.deepEqual({ mode: modeOf(tree), uid, gid }, { mode: 0o755, uid: 0, gid: 0 });
        assert.deepEqual(readdirSync(tree), []);
      });
    },
  ],
  [
    "a layer shows what was put in it: modes, owners, times, links, devices, xattrs",
    async ({ layer, view }) => {
      let before: string[] = [];
      await layer(one, (tree) => {
        fillBase(tree);
        before = pictureOf(tree);
      });
      assert.deepEqual(await view(one, "layer", pictureOf), before);
      await view(one, "layer", (tree) => {
        assert.equal(modeOf(join(tree, "a file")), 0o4755);
        assert.equal(readlinkSync(join(tree, "a link")), "../target with spaces");
        assert.equal(lstatSync(join(tree, "deep/same")).nlink, 2);
      });
    },
  ],
  [
    "a child shows its parent's tree unchanged, and so does a writable",
    async ({ layer, view, writable }) => {
      await layer(one, fillBase);
      await layer(two);
      await writable({ ...three, id: "writable" });
      const picture = await view(one, "layer", pictureOf);
      assert.deepEqual(await view(two, "layer", pictureOf), picture);
      assert.deepEqual(await view({ ...three, id: "writable" }, "writable", pictureOf), picture);
    },
  ],
  [
    "what a child deletes is gone from it and stays in its parent",
    async ({ layer, view }) => {
      await layer(one, fillBase);
      const parent = await view(one, "layer", pictureOf);
      await layer(two, (tree) => {
        rmSync(join(tree, "a file"));
        rmSync(join(tree, "deep"), { recursive: true });
      });
      await view(two, "layer", (tree) =>
        assert.deepEqual(readdirSync(tree).sort(), ["a link", "a subdir", "disk", "null", "pipe"]),
      );
      await layer(three, (tree) => writeFileSync(join(tree, "a file"), "again"));
      await view(three, "layer", (tree) => assert.equal(text(join(tree, "a file")), "again"));
      assert.deepEqual(await view(one, "layer", pictureOf), parent);
    },
  ],
  [
    "the latest of several updates of a file is seen (moby 21555)",
    async ({ layer, view }) => {
      await layer(one, (tree) => {
        makeDirectory(join(tree, "etc"));
        writeFileSync(join(tree, "etc/hosts"), "first");
        writeFileSync(join(tree, "etc/other"), "other");
      });
      await layer(two, (tree) => writeFileSync(join(tree, "etc/hosts"), "second, and longer"));
      await layer(three, (tree) => writeFileSync(join(tree, "etc/hosts"), "third"));
      await view(three, "layer", (tree) => {
        assert.equal(text(join(tree, "etc/hosts")), "third");
        assert.equal(text(join(tree, "etc/other")), "other");
      });
    },
  ],
  [
    "a directory that was removed and made again holds nothing old (moby 25244)",
    async ({ layer, view }) => {
      await layer(one, (tree) => {
        makeDirectory(join(tree, "lib"));
        writeFileSync(join(tree, "lib/hidden"), "old");
      });
      await layer(two, (tree) => {
        rmSync(join(tree, "lib"), { recursive: true });
        makeDirectory(join(tree, "lib"));
        writeFileSync(join(tree, "lib/new"), "new");
      });
      await layer(three, (tree) => writeFileSync(join(tree, "lib/newer"), ""));
      await view(three, "layer", (tree) => assert.deepEqual(readdirSync(join(tree, "lib")).sort(), ["new", "newer"]));
    },
  ],
  [
    "a change of owner alone is kept (moby 20240, 24913, 28391)",
    async ({ layer, view }) => {
      await layer(one, (tree) => {
        makeDirectory(join(tree, "opt/app"));
        writeFileSync(join(tree, "opt/app/file"), "x");
        symlinkSync("file", join(tree, "opt/app/link"));
      });
      await layer(two, (tree) => {
        for (const name of ["opt", "opt/app", "opt/app/file", "opt/app/link"]) lchownSync(join(tree, name), 7, 8);
      });
      await layer(three, (tree) => lchownSync(join(tree, "opt/app/file"), 9, 9));
      await view(three, "layer", (tree) => {
        const owners = ["opt", "opt/app", "opt/app/file", "opt/app/link"].map(
          (name) => lstatSync(join(tree, name)).uid,
        );
        assert.deepEqual(owners, [7, 7, 9, 7]);
      });
    },
  ],
  [
    "a directory's permissions survive what happens in it (moby 27298)",
    async ({ layer, view }) => {
      await layer(one, (tree) => {
        for (const mode of [0o700, 0o750, 0o1777, 0o2775]) makeDirectory(join(tree, mode.toString(8)), mode);
      });
      await layer(two, (tree) => {
        for (const name of readdirSync(tree)) writeFileSync(join(tree, name, "file"), "");
      });
      await view(two, "layer", (tree) => {
        for (const name of readdirSync(tree)) assert.equal(modeOf(join(tree, name)).toString(8), name);
      });
    },
  ],
  [
    "the root's own attributes pass on to children",
    async ({ layer, view, writable }) => {
      await layer(one, (tree) => {
        chownSync(tree, 5, 6);
        chmodSync(tree, 0o1711);
        setXattr(AT_FDCWD, tree, "user.root", Buffer.from("yes"));
      });
      await layer(two);
      await writable({ ...three, id: "writable" });
      await view({ ...three, id: "writable" }, "writable", (tree) => {
        assert.equal(modeOf(tree), 0o1711);
        assert.equal(lstatSync(tree).uid, 5);
      });
      const picture = await view(one, "layer", pictureOf);
      assert.deepEqual(await view(two, "layer", pictureOf), picture);
    },
  ],
  [
    "a file can be moved out of a lower layer",
    async ({ layer, view }) => {
      await layer(one, (tree) => {
        makeDirectory(join(tree, "dir1"));
        makeDirectory(join(tree, "dir2"));
        writeFileSync(join(tree, "dir1/f1"), "1");
      });
      await layer(two, (tree) => renameSync(join(tree, "dir1/f1"), join(tree, "dir2/f2")));
      await view(two, "layer", (tree) => {
        assert.equal(existsSync(join(tree, "dir1/f1")), false);
        assert.equal(text(join(tree, "dir2/f2")), "1");
      });
    },
  ],
  [
    "a directory of a lower layer can be moved and filled (moby 25409)",
    async ({ layer, view }) => {
      await layer(one, (tree) => {
        makeDirectory(join(tree, "dir1/inner"));
        writeFileSync(join(tree, "dir1/inner/foo"), "x");
      });
      await layer(two, (tree) => {
        move(join(tree, "dir1"), join(tree, "dir2"));
        writeFileSync(join(tree, "dir2/inner/foo2"), "y");
      });
      await view(two, "layer", (tree) => {
        assert.deepEqual(readdirSync(tree), ["dir2"]);
        assert.deepEqual(readdirSync(join(tree, "dir2/inner")).sort(), ["foo", "foo2"]);
      });
    },
  ],
  [
    "a directory may become a file and a file a directory",
    async ({ layer, view }) => {
      await layer(one, (tree) => {
        makeDirectory(join(tree, "was-directory/inner"));
        writeFileSync(join(tree, "was-file"), "");
      });
      await layer(two, (tree) => {
        rmSync(join(tree, "was-directory"), { recursive: true });
        writeFileSync(join(tree, "was-directory"), "file");
        rmSync(join(tree, "was-file"));
        makeDirectory(join(tree, "was-file/inner"));
      });
      await view(two, "layer", (tree) => {
        assert.equal(text(join(tree, "was-directory")), "file");
        assert.deepEqual(readdirSync(join(tree, "was-file")), ["inner"]);
      });
    },
  ],
  [
    "a hard link to a file of a lower layer is one inode with it",
    async ({ layer, view }) => {
      await layer(one, (tree) => writeFileSync(join(tree, "first"), "x"));
      await layer(two, (tree) => linkSync(join(tree, "first"), join(tree, "second")));
      await view(two, "layer", (tree) => {
        assert.equal(lstatSync(join(tree, "first")).ino, lstatSync(join(tree, "second")).ino);
        assert.equal(lstatSync(join(tree, "first")).nlink, 2);
      });
    },
  ],
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
    "where a driver keeps changes apart, they are what the writable changed; elsewhere there are none to show",
    async ({ driver, layer, view, writable }) => {
      await layer(one, fillBase);
      await writable(two);
      await view(two, "writable", (tree) => writeFileSync(join(tree, "a subdir/new"), "123"));
      const changes = driver.changes(two);
      assert.equal(changes === undefined, driver.traits.keeps === "whole");
      if (changes === undefined) return;
      assert.deepEqual(readdirSync(changes.path, { recursive: true }).toSorted(), ["a subdir", "a subdir/new"]);
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
    "describe and status tell absolute paths and pairs of words",
    async ({ driver, layer }) => {
      await layer(one);
      const described = driver.describe(one, "layer");
      for (const value of Object.values(described)) assert.equal(isAbsolute(value), true, value);
      for (const row of await driver.status()) assert.equal(row.length, 2);
    },
  ],
];
