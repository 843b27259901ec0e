import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  appendFileSync,
  chmodSync,
  chownSync,
  cpSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { isError } from "../base/errors.ts";
import { AT_FDCWD, mknodat, setXattr } from "../host/sys.ts";
import { applyLayer } from "./apply-layer.ts";
import { compareTrees, compareTreesSize, compareTreesTar } from "./compare-trees.ts";
import { overlayChanges, overlayChangesTar } from "./overlay-changes.ts";
import { TarReader } from "./read-tar.ts";
import { describeTree, scratch, stream, written } from "./tree.fixture.ts";

type Views = Disposable & {
  /** The image, and a copy of it. */
  readonly lower: string;
  readonly copy: string;
  readonly upper: string;
  readonly merged: string;
  sub(name: string): string;
};

/** A writable overlay over what `fill` makes. */
function views(fill: (root: string) => void): Views {
  const directory = scratch();
  const [lower, upper, work, merged, copy] = ["lower", "upper", "work", "merged", "copy"].map((name) => {
    mkdirSync(directory.sub(name));
    return directory.sub(name);
  }) as [string, string, string, string, string];
  fill(lower);
  execFileSync("cp", ["-a", `${lower}/.`, copy]);
  const options = `lowerdir=${lower},upperdir=${upper},workdir=${work}`;
  execFileSync("mount", ["-t", "overlay", "overlay", "-o", options, merged]);
  return {
    ...{ lower, copy, upper, merged, sub: directory.sub },
    [Symbol.dispose]: () => {
      execFileSync("umount", [merged]);
      directory[Symbol.dispose]();
    },
  };
}

const image = (root: string): void => {
  for (const path of ["etc", "gone/deep", "opaque/sub", "same", "mode"])
    mkdirSync(join(root, path), { recursive: true });
  for (const path of [
    "etc/a",
    "etc/b",
    "gone/x",
    "gone/deep/y",
    "opaque/old",
    "opaque/both",
    "opaque/sub/z",
    "same/f",
    "mode/f",
  ])
    writeFileSync(join(root, path), `content of ${path}`);
  writeFileSync(join(root, "kind"), "a file");
  symlinkSync("one", join(root, "link"));
};

const change = (root: string): void => {
  const at = (path: string): string => join(root, path);
  appendFileSync(at("etc/a"), "!");
  rmSync(at("etc/b"));
  writeFileSync(at("etc/z.new"), "new");
  rmSync(at("gone"), { recursive: true });
  rmSync(at("opaque"), { recursive: true });
  mkdirSync(at("opaque/sub"), { recursive: true });
  writeFileSync(at("opaque/both"), "another");
  mkdirSync(at("added/in"), { recursive: true });
  writeFileSync(at("added/in/f"), "f");
  chmodSync(at("mode"), 0o700);
  rmSync(at("kind"));
  mkdirSync(at("kind"));
  writeFileSync(at("kind/inside"), "x");
  const { atime, mtime } = lstatSync(at("link"));
  rmSync(at("link"));
  symlinkSync("two", at("link"));
  execFileSync("touch", ["-h", "-d", mtime.toISOString(), at("link")]);
  assert.ok(atime);
  // Opened for writing and yet the same: copied up, no change.
  chownSync(at("same/f"), 0, 0);
};

const changes = [
  { path: "/added", kind: 1 },
  { path: "/added/in", kind: 1 },
  { path: "/added/in/f", kind: 1 },
  { path: "/etc", kind: 0 },
  { path: "/etc/a", kind: 0 },
  { path: "/etc/b", kind: 2 },
  { path: "/etc/z.new", kind: 1 },
  { path: "/gone", kind: 2 },
  { path: "/kind", kind: 0 },
  { path: "/kind/inside", kind: 1 },
  { path: "/link", kind: 0 },
  { path: "/mode", kind: 0 },
  { path: "/opaque", kind: 0 },
  { path: "/opaque/both", kind: 0 },
  { path: "/opaque/old", kind: 2 },
  { path: "/opaque/sub/z", kind: 2 },
  { path: "/opaque/sub", kind: 0 },
].sort((a, b) => (a.path < b.path ? -1 : 1));

test("an upper directory's changes are listed in Docker's words", () => {
  using tree = views(image);
  change(tree.merged);
  assert.deepEqual(overlayChanges(tree.upper, tree.lower), changes);
});

test("two trees compared give the same list", () => {
  using tree = views(image);
  change(tree.copy);
  assert.deepEqual(compareTrees(tree.lower, tree.copy), changes);
  assert.deepEqual(compareTrees(tree.copy, tree.copy), []);
});

test("a file that was rewritten with its old time and size is found in an upper directory by its content", () => {
  using tree = views(image);
  const path = join(tree.merged, "etc/a");
  const { atime, mtime } = lstatSync(path);
  const before = execFileSync("stat", ["-c", "%y", path], { encoding: "utf8" }).trim();
  writeFileSync(path, "CONTENT OF etc/a");
  utimesSync(path, atime, mtime);
  execFileSync("touch", ["-d", before, path]);
  assert.deepEqual(overlayChanges(tree.upper, tree.lower), [
    { path: "/etc", kind: 0 },
    { path: "/etc/a", kind: 0 },
  ]);
});

test("an attribute that was set is a change", () => {
  using tree = views(image);
  setXattr(AT_FDCWD, join(tree.merged, "etc/a"), "user.k", Buffer.from("v"));
  setXattr(AT_FDCWD, join(tree.copy, "etc/a"), "user.k", Buffer.from("v"));
  const expected = [
    { path: "/etc", kind: 0 },
    { path: "/etc/a", kind: 0 },
  ];
  assert.deepEqual(overlayChanges(tree.upper, tree.lower), expected);
  assert.deepEqual(compareTrees(tree.lower, tree.copy), expected);
});

async function names(tar: Buffer): Promise<string[]> {
  const reader = new TarReader(stream(tar));
  const found: string[] = [];
  for (let entry = await reader.next(); entry !== undefined; entry = await reader.next())
    found.push(entry.type === "link" ? `${entry.path} = ${entry.link}` : entry.path);
  return found;
}

test("a layer tar has parents first and explicit whiteouts before their siblings", async () => {
  using tree = views(image);
  change(tree.merged);
  const tar = await written((write) => overlayChangesTar(tree.upper, tree.lower, write));
  assert.deepEqual(await names(tar), [
    ".wh.gone",
    ...["added/", "added/in/", "added/in/f"],
    ...["etc/", "etc/.wh.b", "etc/a", "etc/z.new"],
    ...["kind/", "kind/inside", "link", "mode/"],
    ...["opaque/", "opaque/.wh.old", "opaque/both", "opaque/sub/", "opaque/sub/.wh.z"],
  ]);
});

test("both kinds of driver write the same layer for the same changes", async () => {
  using tree = views(image);
  change(tree.merged);
  change(tree.copy);
  const untimed = (tar: Buffer): Promise<string[]> => names(tar);
  const one = await written((write) => overlayChangesTar(tree.upper, tree.lower, write));
  const other = await written((write) => compareTreesTar(tree.lower, tree.copy, { write }));
  assert.deepEqual(await untimed(one), await untimed(other));
});

test("nothing changed gives an empty archive, and so does making and removing a file", async () => {
  using tree = views(image);
  writeFileSync(join(tree.merged, "etc/temporary"), "");
  rmSync(join(tree.merged, "etc/temporary"));
  assert.deepEqual(await written((write) => overlayChangesTar(tree.upper, tree.lower, write)), Buffer.alloc(1024));
  assert.deepEqual(overlayChanges(tree.upper, tree.lower), []);
});

test("a changed root is in the layer but in no list", async () => {
  using tree = views(image);
  chmodSync(tree.merged, 0o711);
  assert.deepEqual(overlayChanges(tree.upper, tree.lower), []);
  const tar = await written((write) => overlayChangesTar(tree.upper, tree.lower, write));
  await applyLayer(stream(tar), tree.copy, { recipePath: tree.sub("recipe") });
  assert.equal(lstatSync(tree.copy).mode & 0o7777, 0o711);
});

test("hard links stay links, also to a file that did not change", async () => {
  using tree = views(image);
  for (const root of [tree.merged, tree.copy]) linkSync(join(root, "etc/a"), join(root, "etc/a2"));
  const one = await written((write) => overlayChangesTar(tree.upper, tree.lower, write));
  const other = await written((write) => compareTreesTar(tree.lower, tree.copy, { write }));
  for (const tar of [one, other]) assert.deepEqual(await names(tar), ["etc/", "etc/a", "etc/a2 = etc/a"]);
});

test("whiteouts as attributes are read (kernel 6.7), and a whiteout of nothing is dropped", () => {
  using tree = views(image);
  mkdirSync(join(tree.upper, "etc"));
  setXattr(AT_FDCWD, join(tree.upper, "etc"), "trusted.overlay.opaque", Buffer.from("x"));
  for (const name of ["a", "never"]) {
    writeFileSync(join(tree.upper, "etc", name), "");
    setXattr(AT_FDCWD, join(tree.upper, "etc", name), "trusted.overlay.whiteout", Buffer.alloc(0));
  }
  mknodat(AT_FDCWD, join(tree.upper, "nothing"), 0o020000, 0, 0);
  writeFileSync(join(tree.upper, "etc/empty"), "");
  assert.deepEqual(overlayChanges(tree.upper, tree.lower), [
    { path: "/etc", kind: 0 },
    { path: "/etc/a", kind: 2 },
    { path: "/etc/empty", kind: 1 },
  ]);
});

test("a whiteout inside an opaque directory hides what is below", () => {
  using tree = views(image);
  mkdirSync(join(tree.upper, "etc"));
  setXattr(AT_FDCWD, join(tree.upper, "etc"), "trusted.overlay.opaque", Buffer.from("y"));
  mknodat(AT_FDCWD, join(tree.upper, "etc/a"), 0o020000, 0, 0);
  assert.deepEqual(
    overlayChanges(tree.upper, tree.lower).map(({ path, kind }) => [path, kind]),
    [
      ["/etc", 0],
      ["/etc/a", 2],
      ["/etc/b", 2],
    ],
  );
});

test("metacopy and redirected directories are refused by name", () => {
  using tree = views(image);
  mkdirSync(join(tree.upper, "moved"));
  setXattr(AT_FDCWD, join(tree.upper, "moved"), "trusted.overlay.redirect", Buffer.from("/etc"));
  const refused = (word: RegExp) => (error: unknown) => isError(error, "unsupported") && word.test(error.message);
  assert.throws(() => overlayChanges(tree.upper, tree.lower), refused(/\/moved.*redirect_dir/));
  rmSync(join(tree.upper, "moved"), { recursive: true });
  execFileSync("truncate", ["-s", "100", join(tree.upper, "f")]);
  setXattr(AT_FDCWD, join(tree.upper, "f"), "trusted.overlay.metacopy", Buffer.alloc(0));
  assert.throws(() => overlayChanges(tree.upper, tree.lower), refused(/\/f.*metacopy/));
});

test("escaped attributes of a nested overlay are data, under their own name", async () => {
  using tree = views(image);
  setXattr(AT_FDCWD, join(tree.merged, "etc"), "trusted.overlay.opaque", Buffer.from("y"));
  const tar = await written((write) => overlayChangesTar(tree.upper, tree.lower, write));
  const reader = new TarReader(stream(tar));
  const entry = await reader.next();
  assert.equal(entry?.path, "etc/");
  assert.deepEqual([...(entry?.xattrs ?? [])], [["trusted.overlay.opaque", Buffer.from("y")]]);
});

test("a name that would be a whiteout cannot be committed", async () => {
  using tree = views(image);
  writeFileSync(join(tree.merged, ".wh.etc"), "");
  const tar = written((write) => overlayChangesTar(tree.upper, tree.lower, write));
  await assert.rejects(tar, (error) => isError(error, "invalid_argument") && /\.wh\.etc/.test(error.message));
});

test("the size of changes counts each inode once", () => {
  using tree = views(image);
  writeFileSync(join(tree.copy, "new"), "12345");
  linkSync(join(tree.copy, "new"), join(tree.copy, "new2"));
  rmSync(join(tree.copy, "etc/a"));
  assert.equal(compareTreesSize(tree.lower, tree.copy), 5);
});

const part = fc.constantFrom("a", "b", "c");
const path = fc.array(part, { minLength: 1, maxLength: 3 }).map((parts) => parts.join("/"));
const operation = fc.record({
  what: fc.constantFrom("write", "mkdir", "rm", "chmod", "rename", "symlink", "link", "chown", "append"),
  path,
  other: path,
  content: fc.constantFrom("", "x", "some more"),
});
type Operation = { what: string; path: string; other: string; content: string };

/** Does it as a container would; what cannot be done is not done. */
function perform(root: string, { what, path: name, other, content }: Operation): void {
  const [at, to] = [join(root, name), join(root, other)];
  try {
    if (what === "write" || what === "mkdir") mkdirSync(dirname(at), { recursive: true });
    if (what === "write") writeFileSync(at, content);
    else if (what === "append") appendFileSync(at, content);
    else if (what === "mkdir") mkdirSync(at);
    else if (what === "rm") rmSync(at, { recursive: true });
    else if (what === "chmod") chmodSync(at, 0o711);
    else if (what === "chown") chownSync(at, 5, 6);
    else if (what === "symlink") symlinkSync("nowhere", at);
    else if (what === "link") linkSync(at, to);
    else if (lstatSync(at).isFile()) renameSync(at, to);
  } catch (error) {
    assert.match(String(error), /E[A-Z]+/);
  }
}

/** Links are compared by the tests above: overlayfs breaks those of its lower layers when it copies up. */
const withoutLinks = (root: string): Record<string, string> => {
  const found = describeTree(root, { seconds: true, directoryTimes: false });
  return Object.fromEntries(Object.entries(found).map(([name, line]) => [name, line.replace(/ = \S+/, "")]));
};

test("what a container did at random, applied as a layer over the image, is what the container saw", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(operation, { maxLength: 12 }),
      fc.array(operation, { maxLength: 12 }),
      async (before, during) => {
        using tree = views((root) => {
          for (const one of before) perform(root, one);
        });
        for (const one of during) perform(tree.merged, one);
        const tar = await written((write) => overlayChangesTar(tree.upper, tree.lower, write));
        const seen = withoutLinks(tree.merged);
        execFileSync("cp", ["-a", tree.copy, tree.sub("second")]);
        await applyLayer(stream(tar), tree.copy, { recipePath: tree.sub("recipe") });
        assert.deepEqual(withoutLinks(tree.copy), seen);

        execFileSync("cp", ["-a", tree.merged, tree.sub("whole")]);
        const compared = await written((write) => compareTreesTar(tree.lower, tree.sub("whole"), { write }));
        await applyLayer(stream(compared), tree.sub("second"), { recipePath: tree.sub("recipe") });
        assert.deepEqual(withoutLinks(tree.sub("second")), seen);
        assert.deepEqual(overlayChanges(tree.upper, tree.lower), compareTrees(tree.lower, tree.sub("whole")));
      },
    ),
    { numRuns: Number(process.env.FC_RUNS ?? 40) },
  );
});

test("content of a copied file arrives", async () => {
  using tree = views(image);
  cpSync(join(tree.lower, "etc/a"), join(tree.merged, "copy"));
  const tar = await written((write) => overlayChangesTar(tree.upper, tree.lower, write));
  await applyLayer(stream(tar), tree.copy, { recipePath: tree.sub("recipe") });
  assert.equal(readFileSync(join(tree.copy, "copy"), "utf8"), "content of etc/a");
});
