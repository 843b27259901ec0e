import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { hasWildcards, matchPath, parseDockerignore } from "./glob.ts";

describe("patterns of sources", () => {
  const cases: readonly (readonly [pattern: string, path: string, matches: boolean])[] = [
    ["*", "a", true],
    ["*", "a/b", false],
    ["*.txt", "a.txt", true],
    ["*.txt", ".txt", true],
    ["a*b*c", "axxbyyc", true],
    ["a*b*c", "axxbyy", false],
    ["*/x", "d/x", true],
    ["*/x", "d/e/x", false],
    ["d/*/x", "d/e/x", true],
    ["?", "a", true],
    ["?", "/", false],
    ["a?c", "abc", true],
    ["[a-c]x", "bx", true],
    ["[a-c]x", "dx", false],
    ["[^a-c]x", "dx", true],
    ["[^a]", "/", false],
    ["[]a]", "]", true],
    ["[\\]]", "]", true],
    ["\\*", "*", true],
    ["\\*", "a", false],
    ["", "", true],
    ["**", "ab", true],
    ["*a*a*a*a*b", "a".repeat(200), false],
  ];
  for (const [pattern, path, matches] of cases)
    test(`${pattern} ${matches ? "is" : "is not"} ${path.slice(0, 20)}`, () =>
      assert.equal(matchPath(pattern, path), matches));

  test("a broken pattern is refused", () => {
    for (const pattern of ["[", "[a", "a\\", "[a-"])
      assert.throws(() => matchPath(pattern, "a"), { code: "invalid_argument" });
  });

  test("only unescaped characters are wildcards", () => {
    assert.deepEqual(["a", "a*", "?", "[x]", "\\*"].map(hasWildcards), [false, true, true, true, false]);
  });
});

describe(".dockerignore", () => {
  const cases: readonly (readonly [file: string, path: string, ignored: boolean])[] = [
    ["", "a", false],
    ["a", "a", true],
    ["/a", "a", true],
    ["./a/", "a", true],
    ["a", "a/b", true],
    ["a", "b/a", false],
    ["*/a", "b/a", true],
    ["**/a", "a", true],
    ["**/a", "b/c/a", true],
    ["**/a", "b/c/a/d", true],
    ["a/**", "a", false],
    ["a/**", "a/b/c", true],
    ["a/**/b", "a/b", true],
    ["a/**/b", "a/x/y/b", true],
    ["**", "anything/at/all", true],
    ["*.md\n!README.md", "README.md", false],
    ["*.md\n!README.md", "x.md", true],
    ["!a\na", "a", true],
    ["# a\nb", "a", false],
    ["  a  ", "a", true],
    ["x/../a", "a", true],
    ["Dockerfile", "Dockerfile", true],
    ["*\n!Dockerfile", "Dockerfile", false],
    ["\uFEFFa\r\n", "a", true],
  ];
  for (const [file, path, ignored] of cases)
    test(`${JSON.stringify(file)} ${ignored ? "leaves out" : "keeps"} ${path}`, () =>
      assert.equal(parseDockerignore(file)(path), ignored));

  test("a broken line is refused", () => {
    assert.throws(() => parseDockerignore("!"), { code: "invalid_argument" });
    assert.throws(() => parseDockerignore("a[")("b"), { code: "invalid_argument" });
  });
});
