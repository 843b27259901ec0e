import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { isError } from "../base/errors.ts";
import { AT_FDCWD, getXattr, setXattr } from "../host/sys.ts";
import { type AppliedLayer, applyLayer } from "./apply-layer.ts";
import { restoreTar } from "./restore-tar.ts";
import { collect, describeTree, type RawEntry, rawTar, scratch, stream } from "./tree.fixture.ts";

type Tree = { readonly root: string; apply(entries: readonly RawEntry[] | Buffer): Promise<AppliedLayer> } & Disposable;

/** A root that layers are applied to; each must come back bit for bit right after. */
function newTree(): Tree {
  const directory = scratch();
  const root = directory.sub("root");
  mkdirSync(root);
  const recipePath = directory.sub("recipe");
  return {
    root,
    apply: async (entries) => {
      const tar = Buffer.isBuffer(entries) ? entries : rawTar(entries as readonly RawEntry[]);
      const layer = await applyLayer(stream(tar), root, { recipePath });
      assert.equal(layer.diffId, `sha256:${createHash("sha256").update(tar).digest("hex")}`);
      assert.equal(layer.tarSize, tar.length);
      assert.deepEqual(await collect(restoreTar(recipePath, root)), tar, "the recipe gives the tar back");
      return layer;
    },
    [Symbol.dispose]: () => directory[Symbol.dispose](),
  };
}

const dir = (path: string, more: RawEntry = {}): RawEntry => ({ path: `${path}/`, type: "5", mode: 0o755, ...more });
const file = (path: string, content = "", more: RawEntry = {}): RawEntry => ({ path, content, ...more });
const paths = (root: string): string[] =>
  Object.keys(describeTree(root))
    .slice(1)
    .map((path) => path.slice(1));

test("a layer of every type arrives with owners, modes, times and attributes", async () => {
  using tree = newTree();
  const { size } = await tree.apply([
    dir("d", { mode: 0o1777, uid: 5, gid: 6, mtime: 1000 }),
    file("d/f", "hello", {
      mode: 0o4755,
      uid: 7,
      gid: 8,
      pax: {
        mtime: "1500.123456789",
        "SCHILY.xattr.user.k": "v",
        "SCHILY.xattr.security.capability": "\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
      },
    }),
    { path: "d/l", type: "1", link: "d/f" },
    { path: "d/s", type: "2", link: "../../../etc/passwd", uid: 9, mtime: 77 },
    { path: "d/c", type: "3", major: 5, minor: 300, mode: 0o620 },
    { path: "d/b", type: "4", major: 8, minor: 1 },
    { path: "d/p", type: "6", mode: 0o600 },
  ]);
  assert.equal(size, 5);
  const found = describeTree(tree.root);
  assert.match(found["/d"] ?? "", /^41777 5:6 mtime=1000000000000$/);
  assert.match(
    found["/d/f"] ?? "",
    /^104755 7:8 mtime=1500123456789 size=5 .*security.capability=01000002.* user.k=76$/,
  );
  assert.match(found["/d/l"] ?? "", /= \/d\/f/);
  assert.match(found["/d/s"] ?? "", /^120777 9:0 mtime=77000000000 size=19 -> \.\.\/\.\.\/\.\.\/etc\/passwd$/);
  assert.match(found["/d/c"] ?? "", /^20620 .*rdev=\d+$/);
  assert.equal(lstatSync(join(tree.root, "d/c")).rdev, 5 * 256 + (300 & 0xff) + ((300 & 0xfff00) << 12));
});

test("files get their owner and mode whatever the directory hands down", async () => {
  using tree = newTree();
  const modes = [0o600, 0o644, 0o666, 0o755, 0o4755, 0o2755, 0o1644, 0o000, 0o444];
  const files = (path: string): RawEntry[] => modes.map((mode) => file(`${path}/${mode.toString(8)}`, "x", { mode }));
  await tree.apply([
    dir("plain"),
    ...files("plain"),
    dir("group", { gid: 6, mode: 0o2775 }),
    ...files("group"),
    // a directory that is known already, and hands down from now on
    dir("later"),
    file("later/first"),
    dir("later", { gid: 7, mode: 0o2755 }),
    ...files("later"),
    dir("owner", { gid: 8, uid: 9 }),
    ...files("owner"),
  ]);
  const found = describeTree(tree.root);
  for (const directory of ["plain", "group", "later", "owner"])
    for (const mode of modes.map((number) => number.toString(8)))
      assert.match(
        found[`/${directory}/${mode}`] ?? "",
        new RegExp(`^100${mode.padStart(3, "0")} 0:0 |^10${mode} 0:0 `),
      );
});

test("implied parents are 0755 and root's", async () => {
  using tree = newTree();
  await tree.apply([file("a/b/c", "x", { uid: 3 })]);
  assert.match(describeTree(tree.root)["/a/b"] ?? "", /^40755 0:0/);
});

test("times outside of what the disk keeps become the epoch", async () => {
  using tree = newTree();
  await tree.apply([file("a", "", { pax: { mtime: "-5" } }), file("b", "", { pax: { mtime: "99999999999999" } })]);
  assert.match(describeTree(tree.root)["/a"] ?? "", /mtime=0 /);
  assert.match(describeTree(tree.root)["/b"] ?? "", /mtime=0 /);
});

test("a directory over a directory changes attributes only, any other clash replaces", async () => {
  using tree = newTree();
  await tree.apply([
    dir("d"),
    file("d/kept", "k"),
    file("f", "1"),
    dir("x"),
    file("x/y"),
    { path: "s", type: "2", link: "d" },
  ]);
  await tree.apply([dir("d", { mode: 0o700, uid: 4 }), dir("f"), file("x", "now a file"), dir("s")]);
  assert.deepEqual(paths(tree.root), ["d", "d/kept", "f", "s", "x"]);
  assert.match(describeTree(tree.root)["/d"] ?? "", /^40700 4:0/);
  assert.match(describeTree(tree.root)["/s"] ?? "", /^40755/);
});

test("an entry below something that is no directory takes its place", async () => {
  using tree = newTree();
  await tree.apply([file("a", "file")]);
  await tree.apply([file("a/b/c", "x")]);
  assert.deepEqual(paths(tree.root), ["a", "a/b", "a/b/c"]);
});

test("whiteouts hide what is below, and only that, whatever their position", async () => {
  using tree = newTree();
  await tree.apply([
    file("a", "old"),
    dir("d"),
    file("d/x", "old"),
    file("d/y", "old"),
    file("gone"),
    dir("tree"),
    file("tree/deep/er"),
  ]);
  await tree.apply([
    file(".wh.gone"),
    file("a", "new"),
    file(".wh.a"),
    file("d/x", "new"),
    file(".wh.d"),
    file(".wh.tree"),
    file(".wh.never"),
    file("nowhere/.wh.x"),
  ]);
  assert.deepEqual(paths(tree.root), ["a", "d", "d/x"]);
  assert.equal(readFileSync(join(tree.root, "a"), "utf8"), "new");
});

test("a whiteout of a directory that the layer only implied takes its attributes too", async () => {
  using tree = newTree();
  await tree.apply([
    dir("d", { mode: 0o700, uid: 9, pax: { "SCHILY.xattr.user.old": "1" } }),
    dir("d/e", { mode: 0o711 }),
    file("d/e/old"),
  ]);
  await tree.apply([file("d/e/new"), file(".wh.d")]);
  assert.deepEqual(paths(tree.root), ["d", "d/e", "d/e/new"]);
  assert.match(describeTree(tree.root)["/d"] ?? "", /^40755 0:0 mtime=\d+$/);
  assert.match(describeTree(tree.root)["/d/e"] ?? "", /^40755 0:0 mtime=\d+$/);
});

test("a whiteout after the layer's own directory keeps that directory's attributes and drops older ones", async () => {
  using tree = newTree();
  await tree.apply([dir("d", { pax: { "SCHILY.xattr.user.old": "1" } }), file("d/old")]);
  await tree.apply([dir("d", { mode: 0o711, uid: 3, pax: { "SCHILY.xattr.user.new": "2" } }), file(".wh.d")]);
  assert.deepEqual(paths(tree.root), ["d"]);
  assert.match(describeTree(tree.root)["/d"] ?? "", /^40711 3:0 mtime=\d+ user\.new=32$/);
});

test("an opaque directory loses what is below and keeps what the layer made, before or after", async () => {
  using tree = newTree();
  await tree.apply([dir("d", { mode: 0o700 }), file("d/a", "old"), file("d/b", "old"), dir("d/e"), file("d/e/f")]);
  await tree.apply([file("d/b", "new"), file("d/e/g", "new"), file("d/.wh..wh..opq"), file("d/c", "new")]);
  assert.deepEqual(paths(tree.root), ["d", "d/b", "d/c", "d/e", "d/e/g"]);
  assert.match(describeTree(tree.root)["/d"] ?? "", /^40700/);
  await tree.apply([file(".wh..wh..opq")]);
  assert.deepEqual(paths(tree.root), []);
});

test("other aufs names are ignored with all their content", async () => {
  using tree = newTree();
  await tree.apply([file(".wh..wh.aufs", "x"), dir(".wh..wh.plnk"), file(".wh..wh.plnk/1.2", "data"), file("a")]);
  assert.deepEqual(paths(tree.root), ["a"]);
});

for (const name of [".wh.", ".wh..", ".wh...", "d/.wh.", ".wh.d/x"])
  test(`the name ${name} is refused`, async () => {
    using tree = newTree();
    await assert.rejects(tree.apply([file(name)]), (error) => isError(error, "invalid_argument"));
  });

test("hard links into the aufs store are refused clearly", async () => {
  using tree = newTree();
  const entries = [file(".wh..wh.plnk/1.2", "x"), { path: "a", type: "1", link: ".wh..wh.plnk/1.2" }];
  await assert.rejects(tree.apply(entries), (error) => isError(error, "unsupported"));
});

test("a duplicate, an overwritten link and a removed directory leave a tar that still comes back", async () => {
  using tree = newTree();
  const { size } = await tree.apply([
    file("a", "first version"),
    { path: "b", type: "1", link: "a" },
    file("a", "second"),
    file("d/e/f", "below"),
    file("d", "a file after all"),
    { path: "a", type: "1", link: "a" },
    file("b", "unlinked"),
    file("empty"),
    file("empty"),
  ]);
  assert.equal(size, "second".length + "a file after all".length + "unlinked".length);
  assert.deepEqual(paths(tree.root), ["a", "b", "d", "empty"]);
});

test("a layer's size counts each inode once and nothing of the layers below", async () => {
  using tree = newTree();
  assert.equal((await tree.apply([file("a", "12345"), { path: "b", type: "1", link: "a" }])).size, 5);
  assert.equal((await tree.apply([{ path: "c", type: "1", link: "a" }, file(".wh.a"), file("c", "1")])).size, 1);
});

test("names are bytes: latin1, newlines and 255 of them", async () => {
  using tree = newTree();
  const names = ["caf\xe9", "a\nb", "\xff\xfe", "n".repeat(255), "gr\xc3\xbcn"];
  await tree.apply(names.map((path) => (path.length > 100 ? file("short", "", { pax: { path } }) : file(path))));
  assert.deepEqual(paths(tree.root).sort(), [...names].sort());
});

test("the root's entry changes its attributes", async () => {
  using tree = newTree();
  await tree.apply([dir(".", { path: "./", mode: 0o711, uid: 12, mtime: 99 }), file("./a")]);
  assert.match(describeTree(tree.root)[""] ?? "", /^40711 12:0 mtime=99000000000/);
});

const hostile: readonly (readonly [string, readonly RawEntry[]])[] = [
  ["a root replaced by a symlink (CVE-2021-29136)", [{ path: "/.", type: "2", link: "/etc" }]],
  ["a root replaced by a hard link", [file("a"), { path: ".", type: "1", link: "a" }]],
  ["a name that climbs out", [file("../outside", "x")]],
  ["a name that climbs out later", [file("a/../../outside", "x")]],
  ["a hard link that climbs out", [{ path: "a", type: "1", link: "../outside" }]],
  ["a hard link to an absolute path outside (CVE-2026-17106)", [{ path: "a", type: "1", link: "/etc/passwd" }]],
  [
    "a hard link through a symlink to outside",
    [
      { path: "s", type: "2", link: "/etc" },
      { path: "a", type: "1", link: "s/passwd" },
    ],
  ],
  ["a hard link to a directory", [dir("d"), { path: "a", type: "1", link: "d" }]],
  ["a hard link to nothing", [{ path: "a", type: "1", link: "b" }]],
  ["the character device 0:0", [{ path: "a", type: "3" }]],
  ["a device number out of range", [{ path: "a", type: "3", major: 4096, minor: 1 }]],
  [
    "a symlink loop on the way",
    [{ path: "a", type: "2", link: "b" }, { path: "b", type: "2", link: "a" }, file("a/x")],
  ],
  ["a path that no kernel takes", [file("x", "", { pax: { path: "d/".repeat(3000) } })]],
  ["a name that no filesystem takes", [file("x", "", { pax: { path: "n".repeat(256) } })]],
  ["an empty symlink", [{ path: "a", type: "2" }]],
];

for (const [what, entries] of hostile)
  test(`a layer with ${what} is refused, and touches nothing outside`, async () => {
    using directory = scratch();
    const root = directory.sub("root");
    mkdirSync(root);
    writeFileSync(directory.sub("outside"), "untouched");
    const recipePath = directory.sub("recipe");
    const applied = applyLayer(stream(rawTar(entries)), root, { recipePath });
    await assert.rejects(applied, (error) => isError(error, "invalid_argument"));
    assert.equal(readFileSync(directory.sub("outside"), "utf8"), "untouched");
    assert.deepEqual(readdirSync(directory.path).sort(), ["outside", "root"], "the recipe of a failed layer is gone");
    assert.ok(lstatSync(root).isDirectory());
  });

test("symlinks lead inside the root only (CVE-2014-9356): absolute, climbing and dangling ones", async () => {
  using tree = newTree();
  const outside = scratch();
  using _ = outside;
  await tree.apply([
    { path: "absolute", type: "2", link: outside.path },
    file("absolute/one", "1"),
    { path: "climbing", type: "2", link: "../../../../../../../tmp" },
    file("climbing/two", "2"),
    dir("real"),
    { path: "inside", type: "2", link: "/real/." },
    file("inside/three", "3"),
  ]);
  assert.deepEqual(readdirSync(outside.path), []);
  assert.equal(readFileSync(join(tree.root, outside.path, "one"), "utf8"), "1");
  assert.equal(readFileSync(join(tree.root, "tmp/two"), "utf8"), "2");
  assert.equal(readFileSync(join(tree.root, "real/three"), "utf8"), "3");
  assert.ok(lstatSync(join(tree.root, "inside")).isSymbolicLink());
});

test("an absolute symlink in a subdirectory starts at the root, and `..` in one never leaves it", async () => {
  using tree = newTree();
  await tree.apply([
    { path: "d/e/absolute", type: "2", link: "/real/x" },
    { path: "d/e/up", type: "2", link: "../../../../real/./y" },
    file("d/e/absolute/f"),
    file("d/e/up/g"),
  ]);
  assert.deepEqual(paths(tree.root).slice(4), ["real", "real/x", "real/x/f", "real/y", "real/y/g"]);
});

test("a directory that was replaced and came again is the new one", async () => {
  using tree = newTree();
  await tree.apply([file("d/f", "x"), file("d", "y"), file("d/g", "z"), { path: "s", type: "2", link: "d" }]);
  assert.deepEqual(paths(tree.root), ["d", "d/g", "s"]);
  await tree.apply([file("s/h"), dir("other"), { path: "s", type: "2", link: "other" }, file("s/i")]);
  assert.deepEqual(paths(tree.root), ["d", "d/g", "d/h", "other", "other/i", "s"]);
});

test("an absolute name means the root, and a symlink as the last name is replaced, never written through", async () => {
  using tree = newTree();
  using outside = scratch();
  writeFileSync(outside.sub("target"), "untouched");
  symlinkSync(outside.sub("target"), join(tree.root, "s"));
  await tree.apply([file("/s", "new"), file("/../etc/x", "inside")]);
  assert.equal(readFileSync(outside.sub("target"), "utf8"), "untouched");
  assert.equal(readFileSync(join(tree.root, "s"), "utf8"), "new");
  assert.ok(existsSync(join(tree.root, "etc/x")));
});

test("a mode is never set through a symlink (CVE-2021-32760)", async () => {
  using tree = newTree();
  using outside = scratch();
  writeFileSync(outside.sub("target"), "", { mode: 0o600 });
  chmodSync(outside.sub("target"), 0o600);
  await tree.apply([{ path: "s", type: "2", link: outside.sub("target"), mode: 0o777, uid: 5 }]);
  const { mode, uid } = lstatSync(outside.sub("target"));
  assert.deepEqual([mode & 0o777, uid], [0o600, 0]);
});

test("user attributes where the kernel has none are dropped; an unknown namespace is refused by name", async () => {
  using tree = newTree();
  await tree.apply([{ path: "s", type: "2", link: "x", pax: { "SCHILY.xattr.user.k": "v" } }]);
  const refused = tree.apply([file("f", "", { pax: { "SCHILY.xattr.odd.k": "v" } })]);
  await assert.rejects(refused, (error) => isError(error, "unsupported") && /odd\.k on "f"/.test(error.message));
});

test("attributes are escaped where the driver asks for it", async () => {
  using directory = scratch();
  mkdirSync(directory.sub("root"));
  const tar = rawTar([dir("d", { pax: { "SCHILY.xattr.trusted.overlay.opaque": "y" } })]);
  const escapeXattrs = { from: "trusted.overlay.", to: "trusted.overlay.overlay." };
  await applyLayer(stream(tar), directory.sub("root"), { recipePath: directory.sub("r"), escapeXattrs });
  assert.equal(getXattr(AT_FDCWD, directory.sub("root/d"), "trusted.overlay.overlay.opaque")?.toString(), "y");
  assert.equal(getXattr(AT_FDCWD, directory.sub("root/d"), "trusted.overlay.opaque"), undefined);
});

test("an access list that a directory hands down does not reach entries that have none", async () => {
  using tree = newTree();
  mkdirSync(join(tree.root, "d"));
  chownSync(join(tree.root, "d"), 0, 0);
  const acl = Buffer.from(
    "0200000001000700ffffffff02000700010000000400050 0ffffffff10000700ffffffff20000500ffffffff".replace(" ", ""),
    "hex",
  );
  setXattr(AT_FDCWD, join(tree.root, "d"), "system.posix_acl_default", acl);
  await tree.apply([file("d/f", "x"), dir("d/e"), { path: "d/p", type: "6" }]);
  const found = describeTree(tree.root);
  for (const path of ["/d/f", "/d/e", "/d/p"]) assert.doesNotMatch(found[path] ?? "", /posix_acl/, path);
});

test("an aborted layer stops and leaves no recipe", async () => {
  using directory = scratch();
  mkdirSync(directory.sub("root"));
  const abort = new AbortController();
  async function* endless(): AsyncGenerator<Uint8Array> {
    for (let count = 0; ; count++) {
      if (count === 100) abort.abort(new Error("enough"));
      yield rawTar([file(`f${count}`)], Buffer.alloc(0));
    }
  }
  const options = { recipePath: directory.sub("recipe"), signal: abort.signal };
  await assert.rejects(applyLayer(endless(), directory.sub("root"), options), /enough/);
  assert.equal(existsSync(directory.sub("recipe")), false);
});

test("a changed, a missing and a linked-away file are data loss that names the path", async () => {
  using tree = newTree();
  const recipe = join(tree.root, "../recipe");
  await tree.apply([dir("d"), file("d/f", "hello")]);
  const spoiled = (): Promise<Buffer> => collect(restoreTar(recipe, tree.root));
  const names = (error: unknown): boolean => isError(error, "data_loss") && error.message.includes("/d/f");
  writeFileSync(join(tree.root, "d/f"), "hellO");
  await assert.rejects(spoiled(), names);
  writeFileSync(join(tree.root, "d/f"), "hello!");
  await assert.rejects(spoiled(), names);
  await tree.apply([file(".wh.d")]);
  await tree.apply([dir("e"), file("e/f", "hello")]);
  const kept = readFileSync(recipe);
  await tree.apply([file(".wh.e")]);
  writeFileSync(recipe, kept);
  symlinkSync("/", join(tree.root, "e"));
  await assert.rejects(spoiled(), (error) => isError(error, "data_loss") && error.message.includes("/e/f"));
});

test("a recipe that was cut or spoiled is data loss", async () => {
  using tree = newTree();
  const recipe = join(tree.root, "../recipe");
  await tree.apply([file("f", "hello")]);
  const whole = readFileSync(recipe);
  for (const bad of [
    whole.subarray(0, whole.length - 1),
    whole.subarray(0, 40),
    Buffer.alloc(0),
    Buffer.from(whole).fill(0, 20, 40),
  ]) {
    writeFileSync(recipe, bad);
    await assert.rejects(collect(restoreTar(recipe, tree.root)), (error) => isError(error, "data_loss"));
  }
});
