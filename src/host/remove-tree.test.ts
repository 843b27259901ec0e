import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { emptyDirectory, removeTreeAt } from "./remove-tree.ts";
import { AT_FDCWD, closeFd, mkdirat, mknodat, O, openat2 } from "./sys.ts";

let directory = "";
let fd = -1;
const descriptors = (): number => readdirSync("/proc/self/fd").length;

before(() => {
  directory = mkdtempSync(join(tmpdir(), "strata-remove-"));
  fd = openat2(AT_FDCWD, directory, { flags: O.RDONLY | O.DIRECTORY });
});
after(() => {
  closeFd(fd);
  rmSync(directory, { recursive: true });
});

/** A chain of directories far longer than PATH_MAX, each with a file whose name is no UTF-8. */
function makeDeep(name: string, depth: number): void {
  mkdirat(fd, name, 0o755);
  let current = openat2(fd, name, { flags: O.RDONLY | O.DIRECTORY });
  for (let level = 0; level < depth; level++) {
    mknodat(current, Buffer.from([0xff, 0x80]), 0o100600, 0, 0);
    mkdirat(current, "deeper", 0o700);
    const next = openat2(current, "deeper", { flags: O.RDONLY | O.DIRECTORY });
    closeFd(current);
    current = next;
  }
  closeFd(current);
}

test("a tree deeper than any path goes, with few descriptors", () => {
  const before = descriptors();
  makeDeep("deep", 3000);
  removeTreeAt(fd, "deep");
  assert.ok(!existsSync(join(directory, "deep")));
  assert.equal(descriptors(), before);
});

test("symlinks go, what they name stays; missing is no error", () => {
  mkdirSync(join(directory, "kept"));
  writeFileSync(join(directory, "kept/file"), "");
  mkdirSync(join(directory, "tree"));
  symlinkSync("../kept", join(directory, "tree/link"));
  symlinkSync("kept", join(directory, "top"));
  for (const name of ["tree", "top", "absent"]) removeTreeAt(fd, name);
  assert.deepEqual(readdirSync(directory), ["kept"]);
  assert.deepEqual(readdirSync(join(directory, "kept")), ["file"]);
});

test("an emptied directory stays, and an abort stops in between", () => {
  makeDeep("emptied", 10);
  const emptied = openat2(fd, "emptied", { flags: O.RDONLY | O.DIRECTORY });
  const reason = new Error("enough");
  assert.throws(() => emptyDirectory(emptied, AbortSignal.abort(reason)), reason);
  assert.ok(readdirSync(join(directory, "emptied")).length > 0);
  emptyDirectory(emptied);
  assert.deepEqual(readdirSync(join(directory, "emptied")), []);
  closeFd(emptied);
});
