/** Cases of the conformance suite about what trees show: entries, attributes, deletions, moves, links. */
import assert from "node:assert/strict";
import {
  chmodSync,
  chownSync,
  existsSync,
  lchownSync,
  linkSync,
  lstatSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { AT_FDCWD, setXattr } from "../host/sys.ts";
import { pictureOf } from "../host/tree-picture.ts";
import {
  type ConformanceCase,
  fillBase,
  makeDirectory,
  modeOf,
  move,
  one,
  text,
  three,
  two,
} from "./conformance-bench.ts";

export const treeCases: readonly ConformanceCase[] = [
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
        // A filesystem in user space may count the names that it was asked about.
        lstatSync(join(tree, "deep/er/still/large"));
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
        for (const mode of [0o700, 0o750, 0o1777]) makeDirectory(join(tree, mode.toString(8)), mode);
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
    "a directory's setgid bit survives what happens in it, unless the driver says that it forgets attributes",
    async ({ driver, layer, view }) => {
      const forgotten = driver.traits.forgetsAttributes === true ? 0o2000 : 0;
      await layer(one, (tree) => makeDirectory(join(tree, "shared"), 0o2775));
      await layer(two, (tree) => writeFileSync(join(tree, "shared/file"), ""));
      await view(two, "layer", (tree) => assert.equal(modeOf(join(tree, "shared")) | forgotten, 0o2775));
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
];
