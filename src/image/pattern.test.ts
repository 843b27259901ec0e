import assert from "node:assert/strict";
import { test } from "node:test";
import { isError } from "../base/errors.ts";
import { patternOf } from "./pattern.ts";

test("patterns match as Go's path.Match does", () => {
  const table: readonly (readonly [string, string, boolean])[] = [
    ["abc", "abc", true],
    ["*", "abc", true],
    ["*c", "abc", true],
    ["a*", "a", true],
    ["a*", "ab/c", false],
    ["a*/b", "abc/b", true],
    ["a*/b", "a/c/b", false],
    ["a?c", "abc", true],
    ["a?c", "a/c", false],
    ["ab[c]", "abc", true],
    ["ab[b-d]", "abc", true],
    ["ab[e-g]", "abc", false],
    ["ab[^c]", "abc", false],
    ["ab[^e-g]", "abc", true],
    ["a\\*b", "a*b", true],
    ["a\\*b", "ab", false],
    ["[\\]a]", "]", true],
    ["[x\\-]", "-", true],
    ["a.b", "axb", false],
    ["bus*:1", "busybox:1", true],
    ["(a|b)+", "a", false],
    ["", "", true],
    ["", "a", false],
  ];
  for (const [pattern, text, expected] of table)
    assert.equal(patternOf(pattern).test(text), expected, `${pattern} ${text}`);
  for (const pattern of ["[", "[a", "a[", "[]", "[^]", "[b-a]", "[-x]", "a\\"])
    assert.throws(
      () => patternOf(pattern),
      (error) => isError(error, "invalid_argument"),
      pattern,
    );
});

test("a pattern of many stars takes no longer than any other", () => {
  const pattern = patternOf(`${"*a".repeat(300)}b`);
  assert.equal(pattern.test("a".repeat(600)), false);
  assert.equal(pattern.test(`${"a".repeat(600)}b`), true);
});
