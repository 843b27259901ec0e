/** What an aufs Docker left: its folders, and its branches as layer tars. Needs root (devices, trusted xattrs), not aufs. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  linkSync,
  lutimesSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { applyLayer } from "../../archive/apply-layer.ts";
import { EngineError, isError } from "../../base/errors.ts";
import { AT_FDCWD, mknodat, setXattr } from "../../host/sys.ts";
import { pictureOf } from "../../host/tree-picture.ts";
import { createPool } from "../../host/worker-pool.ts";
import { meaningOf } from "./dialect.ts";
import { writeAufsLayer } from "./layer-tar.ts";
import { readAufsLayers } from "./layout.ts";

type Folder = Disposable & { readonly path: string; readonly at: (name: string) => string };

function folder(): Folder {
  const path = mkdtempSync(join(tmpdir(), "aufs-left-"));
  const at = (name: string): string => join(path, name);
  return { path, at, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

/** A branch with aufs' own affairs in it, as the kernel leaves them: every whiteout is a link of one inode. */
function emptyBranch(path: string): (name: string) => void {
  mkdirSync(join(path, ".wh..wh.plnk"), { recursive: true });
  mkdirSync(join(path, ".wh..wh.orph"));
  writeFileSync(join(path, ".wh..wh.aufs"), "", { mode: 0o444 });
  return (name) => linkSync(join(path, ".wh..wh.aufs"), join(path, name));
}

async function tarOf(diff: string): Promise<Buffer> {
  const chunks: Buffer[] = [];
  await writeAufsLayer(diff, async (chunk) => void chunks.push(Buffer.from(chunk)));
  return Buffer.concat(chunks);
}

async function apply(tar: Buffer, root: string, scratch: Folder): Promise<void> {
  async function* bytes(): AsyncGenerator<Uint8Array> {
    yield tar;
  }
  await applyLayer(bytes(), root, { recipePath: scratch.at(`recipe-${Math.random()}`) });
}

const listing = (tar: Buffer): string[] =>
  execFileSync("tar", ["-tf", "-"], { input: tar, encoding: "utf8" }).trim().split("\n");

test("names mean what aufs means by them", () => {
  const meanings: readonly (readonly [name: string, kind: string])[] = [
    ["file", "entry"],
    [".whx", "entry"],
    ["x.wh.y", "entry"],
    [".wh.file", "whiteout"],
    [".wh..hidden", "whiteout"],
    [".wh..wh..opq", "opaque"],
    [".wh..wh.plnk", "own"],
    [".wh..wh.orph", "own"],
    [".wh..wh.aufs", "own"],
    [".wh..wh.file.01af", "own"],
    [".wh..wh.", "own"],
    [".wh.", "wrong"],
    [".wh..", "wrong"],
    [".wh...", "wrong"],
  ];
  for (const [name, kind] of meanings) assert.equal(meaningOf(name).kind, kind, name);
  assert.deepEqual(meaningOf(".wh..hidden"), { kind: "whiteout", of: ".hidden" });
});

test("a branch becomes a layer tar: whiteouts first and apart, opaque marks kept, aufs' own files left out", async () => {
  using scratch = folder();
  const diff = scratch.at("diff");
  const whiteout = emptyBranch(diff);
  mkdirSync(join(diff, "opaque"));
  whiteout("opaque/.wh..wh..opq");
  writeFileSync(join(diff, "opaque/!new"), "");
  mkdirSync(join(diff, "etc"));
  writeFileSync(join(diff, "etc/a"), "");
  whiteout("etc/.wh.group");
  whiteout("etc/.wh.zebra");
  mkdirSync(join(diff, "etc/replaced"));
  whiteout("etc/.wh.replaced");
  writeFileSync(join(diff, "etc/same"), "linked");
  linkSync(join(diff, "etc/same"), join(diff, "etc/twin"));
  linkSync(join(diff, "etc/same"), join(diff, ".wh..wh.plnk/4711.12"));
  const tar = await tarOf(diff);
  assert.deepEqual(listing(tar), [
    "./",
    "etc/",
    "etc/.wh.group",
    "etc/.wh.replaced",
    "etc/.wh.zebra",
    "etc/a",
    "etc/replaced/",
    "etc/same",
    "etc/twin",
    "opaque/",
    "opaque/.wh..wh..opq",
    "opaque/!new",
  ]);
  const lines = execFileSync("tar", ["-tvf", "-"], { input: tar, encoding: "utf8" }).split("\n");
  const whiteouts = lines.filter((line) => line.includes(".wh."));
  assert.ok(
    whiteouts.every((line) => line.startsWith("-rw------- 0/0 ") && / 0 1970-/.test(line)),
    whiteouts.join("\n"),
  );
  assert.match(lines.find((line) => line.includes("etc/twin")) ?? "", / link to etc\/same$/);
  assert.deepEqual(await tarOf(diff), tar, "the same bytes again");
});

test("applied over what was below, it shows what aufs showed", async () => {
  using scratch = folder();
  const [root, expected, diff] = [scratch.at("root"), scratch.at("expected"), scratch.at("diff")];
  for (const tree of [root, expected]) {
    mkdirSync(join(tree, "keep/deep"), { recursive: true });
    writeFileSync(join(tree, "keep/deep/file"), "below");
    mkdirSync(join(tree, "opaque"));
  }
  for (const name of ["keep/gone", "opaque/old", "changed", "was-file"]) writeFileSync(join(root, name), "old");
  mkdirSync(join(root, "was-folder/inner"), { recursive: true });
  const whiteout = emptyBranch(diff);
  for (const tree of [diff, expected]) {
    for (const name of ["keep", "opaque", "was-file"]) mkdirSync(join(tree, name), { recursive: true });
    writeFileSync(join(tree, "opaque/new"), "new");
    writeFileSync(join(tree, "changed"), "changed");
    chownSync(join(tree, "changed"), 12, 34);
    chmodSync(join(tree, "changed"), 0o4711);
    setXattr(AT_FDCWD, join(tree, "changed"), "user.note", Buffer.from("kept"));
    setXattr(AT_FDCWD, join(tree, "keep"), "trusted.note", Buffer.from([0, 1]));
    symlinkSync("../no where", join(tree, "was-folder"));
    mknodat(AT_FDCWD, join(tree, "null"), 0o020666, 1, 3);
    linkSync(join(tree, "changed"), join(tree, "again"));
    for (const name of ["changed", "was-folder", "null", "opaque/new"]) lutimesSync(join(tree, name), 5, 1000);
  }
  whiteout("keep/.wh.gone");
  whiteout("opaque/.wh..wh..opq");
  whiteout(".wh.was-file");
  whiteout(".wh.was-folder");
  for (const tree of [diff, expected])
    for (const name of ["keep", "opaque", "was-file", "."]) lutimesSync(join(tree, name), 5, 2000);
  lutimesSync(join(expected, "keep/deep"), 5, 3000);
  lutimesSync(join(root, "keep/deep"), 5, 3000);
  lutimesSync(join(expected, "keep/deep/file"), 5, 3000);
  lutimesSync(join(root, "keep/deep/file"), 5, 3000);
  await apply(await tarOf(diff), root, scratch);
  assert.deepEqual(pictureOf(root), pictureOf(expected));
});

test("what is called like a whiteout and is none is refused by its path, and links lead nowhere", async () => {
  const cases: readonly (readonly [what: string, make: (at: (name: string) => string) => void, path: string])[] = [
    ["a name without a name", (at) => writeFileSync(at("sub/.wh."), ""), "/sub/.wh."],
    ["a parent", (at) => writeFileSync(at("sub/.wh..."), ""), "/sub/.wh..."],
    ["content", (at) => writeFileSync(at("sub/.wh.x"), "content"), "/sub/.wh.x"],
    ["a folder", (at) => mkdirSync(at("sub/.wh.x")), "/sub/.wh.x"],
    ["a link", (at) => symlinkSync("/etc/passwd", at("sub/.wh.x")), "/sub/.wh.x"],
    ["an opaque folder", (at) => mkdirSync(at("sub/.wh..wh..opq")), "/sub/.wh..wh..opq"],
  ];
  for (const [what, make, path] of cases) {
    using scratch = folder();
    mkdirSync(scratch.at("sub"));
    make(scratch.at);
    await assert.rejects(
      tarOf(scratch.path),
      (error) => isError(error, "invalid_argument") && error.message.startsWith(JSON.stringify(path)),
      what,
    );
  }
  using scratch = folder();
  symlinkSync("/etc", scratch.at("link"));
  assert.deepEqual(listing(await tarOf(scratch.path)), ["./", "link"]);
  using outside = folder();
  symlinkSync(scratch.path, outside.at("diff"));
  await assert.rejects(tarOf(outside.at("diff")), { code: /ELOOP|ENOTDIR/ });
});

test("the task of the pool gives the same bytes", async () => {
  using scratch = folder();
  emptyBranch(scratch.path)(".wh.gone");
  writeFileSync(scratch.at("large"), Buffer.alloc(700_000, "x"));
  await using pool = createPool({ size: 1 });
  const module = new URL("./layer-tar.ts", import.meta.url);
  const { output, result } = pool.stream(module, "aufsLayerTarTask", { diff: scratch.path });
  const chunks: Buffer[] = [];
  for await (const chunk of output) chunks.push(Buffer.from(chunk));
  await result;
  assert.deepEqual(Buffer.concat(chunks), await tarOf(scratch.path));
});

test("the layers of a home are told with their chains; what Docker was removing is passed over", async () => {
  using scratch = folder();
  for (const id of ["base", "top", "top-init", "gone-removing", ".hidden"])
    mkdirSync(scratch.at(`diff/${id}`), { recursive: true });
  mkdirSync(scratch.at("layers"));
  writeFileSync(scratch.at("layers/base"), "");
  writeFileSync(scratch.at("layers/top-init"), "base\n");
  writeFileSync(scratch.at("layers/top"), "top-init\nbase\n");
  assert.deepEqual(await readAufsLayers(scratch.path), [
    { id: "base", parents: [], diff: scratch.at("diff/base") },
    { id: "top", parents: ["top-init", "base"], diff: scratch.at("diff/top") },
    { id: "top-init", parents: ["base"], diff: scratch.at("diff/top-init") },
  ]);
});

test("a chain that cannot be whole is told by the layer's name", async () => {
  const cases: readonly (readonly [record: string | undefined, said: RegExp])[] = [
    ["absent\n", /the aufs layer top stands on "absent", which .* lacks/],
    ["../../etc\n", /stands on "..\/..\/etc"/],
    ["base\nbase\n", /names a layer twice/],
    ["top\n", /names a layer twice/],
    [undefined, /the aufs layer top has no .*layers\/top/],
  ];
  for (const [record, said] of cases) {
    using scratch = folder();
    for (const name of ["diff/base", "diff/top", "layers"]) mkdirSync(scratch.at(name), { recursive: true });
    writeFileSync(scratch.at("layers/base"), "");
    if (record !== undefined) writeFileSync(scratch.at("layers/top"), record);
    await assert.rejects(readAufsLayers(scratch.path), (error) => {
      assert.ok(error instanceof EngineError);
      assert.equal(error.code, "data_loss");
      assert.match(error.message, said);
      return true;
    });
  }
});
