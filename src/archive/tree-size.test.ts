import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { linkSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { AT_FDCWD, mknodat } from "../host/sys.ts";
import { scratch } from "./tree.fixture.ts";
import { treeSize } from "./tree-size.ts";

test("a tree's size is that of its files, each inode once; directories and whiteouts weigh nothing", () => {
  using directory = scratch();
  mkdirSync(directory.sub("a/b/c"), { recursive: true });
  writeFileSync(directory.sub("a/f"), "12345");
  linkSync(directory.sub("a/f"), directory.sub("a/b/g"));
  writeFileSync(directory.sub("a/b/c/h"), "1");
  symlinkSync("four", directory.sub("s"));
  mknodat(AT_FDCWD, directory.sub("gone"), 0o020000, 0, 0);
  const { allocated, ...size } = treeSize(directory.path);
  assert.deepEqual(size, { bytes: 5 + 1 + 4, inodes: 4 + 2 + 1 + 1 });
  const du = Number(execFileSync("du", ["-s", "-B1", directory.path], { encoding: "utf8" }).split("\t")[0]);
  assert.equal(allocated, du);
});

test("a tree deeper than any path is measured", () => {
  using directory = scratch();
  const at = process.cwd();
  process.chdir(directory.path);
  try {
    for (let depth = 0; depth < 50; depth++) {
      mkdirSync("d".repeat(200));
      process.chdir("d".repeat(200));
    }
    writeFileSync("f", "123");
  } finally {
    process.chdir(at);
  }
  const { bytes, inodes } = treeSize(directory.path);
  assert.deepEqual([bytes, inodes], [3, 52]);
});
