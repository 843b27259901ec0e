import assert from "node:assert/strict";
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
  assert.deepEqual(treeSize(directory.path), { bytes: 5 + 1 + 4, inodes: 4 + 2 + 1 + 1 });
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
  assert.deepEqual(treeSize(directory.path), { bytes: 3, inodes: 52 });
});
