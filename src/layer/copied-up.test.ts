/** What a union that a program makes forgets when it copies something up, and layers keep: found by the random chains. */
import assert from "node:assert/strict";
import { type Dirent, lstatSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { ChainId } from "../base/digest.ts";
import { mountTable } from "../host/mount.ts";
import { fuseOverlayfs } from "../storage-driver/fuse-overlayfs/driver.ts";
import { bytes, StoreBench, type TestEntry, tarOf } from "./store.fixture.ts";

const old = { mtime: 1_000_000_000 };
const directory = (path: string, mode = 0o755): TestEntry => ({ path, type: "directory", mode, ...old });

/** Shows the tree of these layers, the lowest first. */
async function shown(layers: readonly (readonly TestEntry[])[], look: (tree: string) => void): Promise<void> {
  await using bench = await StoreBench.open(fuseOverlayfs);
  let top: ChainId | undefined;
  for (const entries of layers) top = (await bench.add(top, await tarOf(...entries), "image:a")).chainId;
  assert.ok(top !== undefined);
  await using tree = await bench.store.mountLayer(top);
  look(tree.path);
}

const secondsOf = (path: string): number => Math.floor(lstatSync(path).mtimeMs / 1000);

test("directories above a change keep their times, the changed one does not (STRATA_SEED 20261121 and 1)", () =>
  shown(
    [
      [directory("./"), directory("a"), directory("a/b"), directory("a/b/c"), { path: "a/b/c/file", ...old }],
      [{ path: "a/b/c/.wh.file" }],
    ],
    (tree) => {
      assert.deepEqual(
        ["", "a", "a/b"].map((path) => secondsOf(join(tree, path))),
        Array(3).fill(old.mtime),
      );
      assert.notEqual(secondsOf(join(tree, "a/b/c")), old.mtime);
    },
  ));

test("directories around a change keep setuid and setgid bits, also the root", () =>
  shown([[directory("./", 0o2755), directory("a", 0o6755)], [{ path: "a/file" }]], (tree) => {
    const modes = ["", "a"].map((path) => (lstatSync(join(tree, path)).mode & 0o7777).toString(8));
    assert.deepEqual(modes, ["2755", "6755"]);
  }));

test("a hard link in a new directory to a file that was replaced below stays one, and leaves its directory's time", () =>
  shown(
    [
      [directory("./"), { path: "x", content: "one", ...old }],
      [{ path: "x", content: "two", mode: 0o4755, uid: 1000, ...old }, directory("./")],
      [{ path: "new/y", type: "link", link: "x" }, directory("./")],
    ],
    (tree) => {
      const [x, y] = [lstatSync(join(tree, "x")), lstatSync(join(tree, "new/y"))];
      assert.equal(x.ino, y.ino);
      assert.deepEqual([x.mode & 0o7777, x.uid, x.size], [0o4755, 1000, 3]);
    },
  ));

test("a hard link to a device, a pipe, a symlink or a setuid file below is to the same thing", () =>
  shown(
    [
      [
        directory("./"),
        { path: "null", type: "char", mode: 0o6666, uid: 1, gid: 2, major: 1, minor: 3, ...old },
        { path: "pipe", type: "fifo", mode: 0o640, uid: 3, gid: 4, ...old },
        { path: "link", type: "symlink", link: "nowhere", mode: 0o777, uid: 5, gid: 6, ...old },
        { path: "file", content: "text", mode: 0o6755, uid: 7, gid: 8, ...old },
      ],
      ["null", "pipe", "link", "file"].flatMap((link): TestEntry[] =>
        ["one", "two"].map((name) => ({ path: `${link}-${name}`, type: "link", link })),
      ),
    ],
    (tree) => {
      const modes = { null: 0o026666, pipe: 0o010640, link: 0o120777, file: 0o106755 };
      const owners = { null: 1, pipe: 3, link: 5, file: 7 };
      for (const name of ["null", "pipe", "link", "file"] as const) {
        const [first, ...others] = ["", "-one", "-two"].map((more) => lstatSync(join(tree, name + more)));
        assert.deepEqual([first?.mode, first?.uid, first?.gid], [modes[name], owners[name], owners[name] + 1], name);
        assert.equal(secondsOf(join(tree, name)), old.mtime);
        for (const other of others) assert.equal(other.ino, first?.ino, name);
      }
      assert.equal(lstatSync(join(tree, "null")).rdev, (1 << 8) | 3);
    },
  ));

test("an image cannot bring what the program obeys, in the lowest layer as little as above", async () => {
  await using bench = await StoreBench.open(fuseOverlayfs);
  const base = (await bench.add(undefined, await tarOf(directory("a"), { path: "a/b" }), "image:a")).chainId;
  for (const parent of [undefined, base])
    for (const name of ["trusted.overlay.opaque", "user.overlay.opaque", "user.fuseoverlayfs.opaque"]) {
      const tar = await tarOf({ ...directory("a"), xattrs: new Map([[name, Buffer.from("y")]]) });
      const refusal = { code: "unsupported", message: new RegExp(`attribute ${name} on "a/": .*keeps it for itself`) };
      await assert.rejects(bench.store.register(parent, bytes(tar)), refusal);
    }
  await bench.assertTidy();
});

test("the lowest layer is filled without the program, and one above through it", async () => {
  const types: string[] = [];
  await using bench = await StoreBench.open(fuseOverlayfs);
  const watched = async function* (tar: Uint8Array): AsyncGenerator<Uint8Array, void, void> {
    const stages = join(bench.execRoot, "mnt");
    const names: Dirent[] = readdirSync(stages, { withFileTypes: true });
    types.push(
      ...names.map(({ name }) => mountTable().find(({ target }) => target === join(stages, name))?.type ?? ""),
    );
    yield tar;
  };
  const base = await bench.store.register(undefined, watched(await tarOf(directory("a"))));
  await bench.store.register(base.chainId, watched(await tarOf(directory("b"))));
  assert.equal(types.length, 2);
  assert.notEqual(types[0], "fuse.fuse-overlayfs");
  assert.equal(types[1], "fuse.fuse-overlayfs");
});
