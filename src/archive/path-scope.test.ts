import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { changeKind } from "../base/change.ts";
import { compareTrees } from "./compare-trees.ts";
import { scopeOf } from "./path-scope.ts";
import { scratch } from "./tree.fixture.ts";

test("candidates become a tree of names, in which those that only lead somewhere are told apart", () => {
  const scope = scopeOf(["a/b", "a/b/c", ""]);
  assert.equal(scope.listed, true);
  assert.equal(scope.below.get("a")?.listed, false);
  assert.equal(scope.below.get("a")?.below.get("b")?.listed, true);
  assert.equal(scope.below.get("a")?.below.get("b")?.below.get("c")?.listed, true);
});

test("directories that are another inode are compared whole, whatever the candidates say", () => {
  using directory = scratch();
  for (const side of ["old", "new"]) mkdirSync(directory.sub(join(side, "etc")), { recursive: true });
  writeFileSync(directory.sub("new/etc/file"), "x");
  assert.deepEqual(compareTrees(directory.sub("old"), directory.sub("new"), { candidates: [] }), [
    { path: "/etc", kind: changeKind.modified },
    { path: "/etc/file", kind: changeKind.added },
  ]);
});

test("where both sides are one inode, only candidates are looked at, and one that is gone on both sides is none", () => {
  using directory = scratch();
  mkdirSync(directory.sub("same/etc"), { recursive: true });
  const same = directory.sub("same");
  for (const candidates of [[], ["never"], ["etc/never/was"], ["", "etc"]])
    assert.deepEqual(compareTrees(same, same, { candidates }), []);
});
