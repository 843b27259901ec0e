import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import {
  chownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { type EngineError, isError } from "../base/errors.ts";
import { AT_FDCWD, mknodat, setXattr } from "../host/sys.ts";
import { applyLayer } from "./apply-layer.ts";
import { type ExtractOptions, extractTree } from "./extract-tree.ts";
import { packTree } from "./pack-tree.ts";
import { TarReader } from "./read-tar.ts";
import { describeTree, type RawEntry, rawTar, scratch, stream, written } from "./tree.fixture.ts";
import { TarWriter } from "./write-tar.ts";

/** One of everything, with names that need PAX. */
function fill(root: string): void {
  mkdirSync(join(root, "d/e"), { recursive: true });
  writeFileSync(join(root, "d/f"), "x".repeat(700_000), { mode: 0o4755 });
  chownSync(join(root, "d/f"), 3_000_000, 4_000_000);
  execFileSync("chmod", ["4755", join(root, "d/f")]);
  setXattr(AT_FDCWD, join(root, "d/f"), "user.k", Buffer.from("v\0\xff=\n", "latin1"));
  linkSync(join(root, "d/f"), join(root, "d/zz"));
  symlinkSync(`/${"t/".repeat(90)}`, join(root, "d/s"));
  writeFileSync(join(root, "d", "n".repeat(150)), "long");
  writeFileSync(Buffer.concat([Buffer.from(`${root}/d/`), Buffer.from("caf\xe9", "latin1")]), "latin1");
  writeFileSync(
    Buffer.concat([Buffer.from(`${root}/d/`), Buffer.from(`${"\xe9".repeat(120)}`, "latin1")]),
    "long latin1",
  );
  writeFileSync(join(root, "d/grün"), "utf8");
  writeFileSync(join(root, "d/old"), "");
  utimesSync(join(root, "d/old"), -5, -5);
  mknodat(AT_FDCWD, join(root, "d/p"), 0o010600, 0, 0);
  mknodat(AT_FDCWD, join(root, "d/c"), 0o020600, 4, 70);
}

const seconds = { seconds: true };

test("a tree of every type comes out and in the same, times cut to seconds", async () => {
  using directory = scratch();
  for (const name of ["a", "b", "c"]) mkdirSync(directory.sub(name));
  fill(directory.sub("a"));
  const tar = await written((write) => packTree(directory.sub("a"), "/", write, { rebaseName: "." }));
  assert.deepEqual(tar, await written((write) => packTree(directory.sub("a"), "/", write, { rebaseName: "." })));
  await applyLayer(stream(tar), directory.sub("b"), { recipePath: directory.sub("recipe") });
  const expected = describeTree(directory.sub("a"), seconds);
  // Before the epoch no layer reaches.
  const old = expected["/d/old"]?.replace("mtime=-5", "mtime=0");
  assert.deepEqual(describeTree(directory.sub("b"), seconds), { ...expected, "/d/old": old });
  await extractTree(stream(gzipSync(tar)), directory.sub("c"), "/");
  const { "": _, ...inside } = describeTree(directory.sub("b"), seconds);
  const { "": __, ...extracted } = describeTree(directory.sub("c"), seconds);
  assert.deepEqual(extracted, inside);
});

test("GNU tar reads what is written here", async () => {
  using directory = scratch();
  for (const name of ["a", "b"]) mkdirSync(directory.sub(name));
  fill(directory.sub("a"));
  const tar = await written((write) => packTree(directory.sub("a"), "/", write, { rebaseName: "." }));
  const { status, stderr } = spawnSync(
    "tar",
    ["-C", directory.sub("b"), "--xattrs", "--xattrs-include=*", "-xpf", "-"],
    {
      input: tar,
      env: { LC_ALL: "C.UTF-8" },
    },
  );
  assert.deepEqual([status, stderr.toString()], [0, ""]);
  assert.deepEqual(describeTree(directory.sub("b"), seconds), describeTree(directory.sub("a"), seconds));
});

for (const format of ["gnu", "pax", "ustar", "v7"])
  test(`what GNU tar writes as ${format} is read here`, async () => {
    using directory = scratch();
    for (const name of ["a", "b"]) mkdirSync(directory.sub(name));
    mkdirSync(directory.sub("a/d"));
    if (format === "gnu" || format === "pax") fill(directory.sub("a"));
    else
      for (const [path, mode] of [
        ["d/f", 0o640],
        ["d/g", 0o4711],
      ] as const)
        writeFileSync(directory.sub(`a/${path}`), path, { mode });
    const xattrs = format === "pax" ? ["--xattrs", "--xattrs-include=user.*"] : [];
    if (format === "gnu") execFileSync("setfattr", ["-x", "user.k", directory.sub("a/d/f")]);
    const tar = execFileSync("tar", ["-C", directory.sub("a"), `--format=${format}`, ...xattrs, "-cf", "-", "."], {
      maxBuffer: 1e8,
    });
    await applyLayer(stream(tar), directory.sub("b"), { recipePath: directory.sub("recipe") });
    const expected = describeTree(directory.sub("a"), seconds);
    const old = expected["/d/old"]?.replace("mtime=-5", "mtime=0");
    if (old !== undefined) Object.assign(expected, { "/d/old": old });
    assert.deepEqual(describeTree(directory.sub("b"), seconds), expected);
  });

test("what Python's tarfile writes is read here, and the reverse", async () => {
  using directory = scratch();
  for (const name of ["a", "b"]) mkdirSync(directory.sub(name));
  fill(directory.sub("a"));
  const script =
    "import sys,tarfile\nt=tarfile.open(fileobj=sys.stdout.buffer,mode='w|',format=tarfile.PAX_FORMAT)\nt.add(sys.argv[1],'.')\nt.close()";
  execFileSync("setfattr", ["-x", "user.k", directory.sub("a/d/f")]);
  const tar = execFileSync("python3", ["-c", script, directory.sub("a")], { maxBuffer: 1e8 });
  await applyLayer(stream(tar), directory.sub("b"), { recipePath: directory.sub("recipe") });
  const expected = describeTree(directory.sub("a"), seconds);
  assert.deepEqual(Object.keys(describeTree(directory.sub("b"))), Object.keys(expected));
  const list =
    "import sys,tarfile\nfor m in tarfile.open(fileobj=sys.stdin.buffer,mode='r|'): print(m.name.encode('utf8','surrogateescape').hex(), m.size, m.uid, int(m.mtime))";
  const ours = await written((write) => packTree(directory.sub("a"), "/d", write));
  const lines = execFileSync("python3", ["-c", list], { input: ours, encoding: "utf8" }).trim().split("\n");
  const line = `${Buffer.from("d/f").toString("hex")} 700000 3000000 `;
  assert.ok(lines.some((one) => one.startsWith(line)));
  assert.equal(lines.length, Object.keys(expected).length - 1);
});

async function list(tar: Buffer): Promise<string[]> {
  const reader = new TarReader(stream(tar));
  const found: string[] = [];
  for (let entry = await reader.next(); entry !== undefined; entry = await reader.next()) found.push(entry.path);
  return found;
}

const namings: readonly (readonly [string, string | undefined, readonly string[]])[] = [
  ["/d", undefined, ["d/", "d/e/", "d/e/f", "d/g"]],
  ["d/e/f", undefined, ["f"]],
  ["/d/.", undefined, ["./", "./e/", "./e/f", "./g"]],
  ["/d", "other", ["other/", "other/e/", "other/e/f", "other/g"]],
  ["/d", "", ["e/", "e/f", "g"]],
  ["/", undefined, ["/", "/d/", "/d/e/", "/d/e/f", "/d/g", "/s"]],
  ["/", "", ["d/", "d/e/", "d/e/f", "d/g", "s"]],
  ["/s", undefined, ["s"]],
  ["/s/", undefined, ["s/", "s/e/", "s/e/f", "s/g"]],
  ["/s/e", undefined, ["e/", "e/f"]],
];

for (const [path, rebaseName, expected] of namings)
  test(`packing ${path} as ${rebaseName ?? "itself"} names ${expected[0]}`, async () => {
    using directory = scratch();
    mkdirSync(directory.sub("d/e"), { recursive: true });
    for (const name of ["d/e/f", "d/g"]) writeFileSync(directory.sub(name), "");
    symlinkSync("/d", directory.sub("s"));
    const options = rebaseName === undefined ? {} : { rebaseName };
    assert.deepEqual(await list(await written((write) => packTree(directory.path, path, write, options))), expected);
  });

test("packing leaves out what is excluded, and sockets", async () => {
  using directory = scratch();
  mkdirSync(directory.sub("d/proc/1"), { recursive: true });
  writeFileSync(directory.sub("d/f"), "");
  const server = createServer().listen(directory.sub("d/socket"));
  await new Promise((resolve) => server.once("listening", resolve));
  const tar = await written((write) => packTree(directory.path, "/", write, { rebaseName: "", exclude: ["/d/proc"] }));
  server.close();
  assert.deepEqual(await list(tar), ["d/", "d/f"]);
});

test("packing follows symlinks inside the root only, and what is not there is not found", async () => {
  using directory = scratch();
  mkdirSync(directory.sub("root/etc"), { recursive: true });
  writeFileSync(directory.sub("root/etc/passwd"), "inside");
  symlinkSync("../../../../../../etc", directory.sub("root/evil"));
  const tar = await written((write) => packTree(directory.sub("root"), "/evil/passwd", write));
  assert.equal(tar.toString("utf8", 512, 518), "inside");
  for (const path of ["/nothing", "/etc/passwd/x", "/evil/shadow"])
    await assert.rejects(
      written((write) => packTree(directory.sub("root"), path, write)),
      (error) => isError(error, "not_found"),
    );
});

async function extract(entries: readonly RawEntry[], root: string, ...rest: [string, ExtractOptions?]): Promise<void> {
  await extractTree(stream(rawTar(entries)), root, ...rest);
}

test("extraction stays below the root, keeps the destination's attributes and gives .wh. names no meaning", async () => {
  using directory = scratch();
  mkdirSync(directory.sub("root/dest"), { recursive: true, mode: 0o755 });
  writeFileSync(directory.sub("root/dest/old"), "old");
  symlinkSync("/../../../../etc", directory.sub("root/link"));
  await extract(
    [
      { path: "./", type: "5", mode: 0o777, uid: 9 },
      { path: ".wh.old", content: "plain" },
      { path: "n/m/f", content: "f" },
      { path: "s", type: "2", link: "/abs" },
      { path: "s/through", content: "t" },
      { path: "h", type: "1", link: "/n/m/f" },
    ],
    directory.sub("root"),
    "/dest",
  );
  assert.deepEqual(readdirSync(directory.sub("root/dest")).sort(), [".wh.old", "h", "n", "old", "s"]);
  assert.equal(lstatSync(directory.sub("root/dest")).uid, 0);
  assert.equal(readFileSync(directory.sub("root/abs/through"), "utf8"), "t");
  assert.equal(lstatSync(directory.sub("root/dest/h")).nlink, 2);
  await extract([{ path: "x", content: "x" }], directory.sub("root"), "/link", { createDest: true });
  assert.equal(readFileSync(directory.sub("root/etc/x"), "utf8"), "x");
});

const owners: readonly (readonly [ExtractOptions, number, number])[] = [
  [{}, 7, 8],
  [{ copyOwner: true }, 7, 8],
  [{ copyOwner: false }, 0, 0],
  [{ owner: { uid: 5, gid: 6 } }, 5, 6],
];
for (const [options, uid, gid] of owners)
  test(`extraction with ${JSON.stringify(options)} gives ${uid}:${gid}`, async () => {
    using directory = scratch();
    await extract(
      [
        { path: "f", uid: 7, gid: 8 },
        { path: "d/", type: "5", uid: 7, gid: 8 },
      ],
      directory.path,
      "/",
      options,
    );
    for (const name of ["f", "d"]) {
      const stat = lstatSync(directory.sub(name));
      assert.deepEqual([stat.uid, stat.gid], [uid, gid]);
    }
  });

test("a directory and something else do not replace each other where that is forbidden", async () => {
  using directory = scratch();
  mkdirSync(directory.sub("d/full"), { recursive: true });
  writeFileSync(directory.sub("f"), "old");
  const options = { noOverwriteDirNonDir: true };
  const forbidden = /cannot overwrite (non-directory "\/f" with directory|directory "\/d" with non-directory)/;
  const refused = (error: unknown): boolean =>
    isError(error, "invalid_argument") && forbidden.test((error as EngineError).message);
  await assert.rejects(extract([{ path: "d", content: "x" }], directory.path, "/", options), refused);
  await assert.rejects(extract([{ path: "f/", type: "5" }], directory.path, "/", options), refused);
  await extract(
    [
      { path: "f", content: "new" },
      { path: "d/", type: "5" },
    ],
    directory.path,
    "/",
    options,
  );
  assert.equal(readFileSync(directory.sub("f"), "utf8"), "new");
  await extract([{ path: "d", content: "x" }], directory.path, "/");
  assert.ok(lstatSync(directory.sub("d")).isFile());
});

test("a destination that is missing or no directory is refused", async () => {
  using directory = scratch();
  writeFileSync(directory.sub("f"), "");
  await assert.rejects(extract([], directory.path, "/nothing"), (error) => isError(error, "not_found"));
  await assert.rejects(extract([], directory.path, "/f"), (error) => isError(error, "invalid_argument"));
  for (const path of ["../x", "a/../../x"])
    await assert.rejects(extract([{ path }], directory.path, "/"), (error) => isError(error, "invalid_argument"));
});

test("numbers that no field holds go into PAX records and come back", async () => {
  const entry = {
    path: "f",
    type: "file",
    mode: 0o644,
    uid: 2 ** 31,
    gid: 2097152,
    size: 9 * 1024 ** 3,
    mtime: -7,
  } as const;
  const header = await written(async (write) => {
    const tar = new TarWriter(write);
    await tar.begin(entry);
    // Enough for the header to leave; nobody needs the other nine gigabytes.
    await tar.data(Buffer.alloc(600_000));
  });
  const found = await new TarReader(stream(header)).next();
  assert.deepEqual(
    [found?.uid, found?.gid, found?.size, found?.mtime],
    [entry.uid, entry.gid, entry.size, -7_000_000_000n],
  );
});

test("a tar entry with more or less content than it says is an error of its writer", async () => {
  const entry = { path: "f", type: "file", mode: 0o644, size: 3 } as const;
  async function* content(text: string): AsyncGenerator<Uint8Array> {
    yield Buffer.from(text);
  }
  for (const text of ["ab", "abcd"])
    await assert.rejects(
      written((write) => new TarWriter(write).addStream(entry, content(text))),
      (error) => isError(error, "internal"),
    );
});
