// biome-ignore-all lint/suspicious/noTemplateCurlyInString: these are a Dockerfile's variables
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { isError } from "./errors.ts";
import { expandWord, expandWords, splitWords, variablesOf } from "./shell-words.ts";

const variables = variablesOf(["A=1", "A=2", "EMPTY=", "SPACED=x  y", "PATH=/bin:/usr/bin"]);

test("words part at blanks outside quotes, and keep what they are written with", () => {
  assert.deepEqual(splitWords(`a=b  c="d e"\tf='g h' i\\ j`), ["a=b", `c="d e"`, "f='g h'", "i\\ j"]);
  assert.deepEqual(splitWords(`"a\\" b" c`), [`"a\\" b"`, "c"]);
  assert.deepEqual(splitWords("  "), []);
  assert.deepEqual(splitWords("a` b", { escapeChar: "`" }), ["a` b"]);
});

test("a word is expanded as BuildKit does", () => {
  const table: readonly (readonly [string, string])[] = [
    ["plain", "plain"],
    ["$A", "2"],
    ["${A}x", "2x"],
    ["$Ax", ""],
    ["a$", "a$"],
    ["$.", "$."],
    ["'$A'", "$A"],
    ['"$A b"', "2 b"],
    ['"\\$A"', "$A"],
    ['"\\n"', "\\n"],
    ["\\$A", "$A"],
    ["a\\ b", "a b"],
    ["'a'\"b\"c", "abc"],
    ["${NONE:-x}", "x"],
    ["${EMPTY:-x}", "x"],
    ["${EMPTY-x}", ""],
    ["${A:+x}", "x"],
    ["${NONE:+x}", ""],
    ["${EMPTY+x}", "x"],
    ["${NONE:-${A}y}", "2y"],
    ["${NONE:-a}b}", "ab}"],
    ["$PATH:/x", "/bin:/usr/bin:/x"],
    ["${A:?no}", "2"],
    ["$1", ""],
    ['""', ""],
  ];
  for (const [word, expected] of table) assert.equal(expandWord(word, variables), expected, word);
});

test("blanks out of a variable part words only outside quotes", () => {
  assert.deepEqual(expandWords("$SPACED", variables), ["x", "y"]);
  assert.deepEqual(expandWords('"$SPACED"', variables), ["x  y"]);
  assert.deepEqual(expandWords("$NONE", variables), []);
  assert.deepEqual(expandWords('""', variables), [""]);
});

test("open quotes, open braces and unknown modifiers are refused", () => {
  for (const word of ["'a", '"a', "${A", "${", "${}", "${A:-b", "${A%x}", "${NONE:?missing}", "${A:"])
    assert.throws(
      () => expandWord(word, variables),
      (error) => isError(error, "invalid_argument"),
      word,
    );
});

test("expansion always ends, with text or with invalid_argument", () => {
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom(..."a${}:-+?'\"\\ A_"), maxLength: 30 }), (word) => {
      try {
        expandWord(word, variables);
        splitWords(word);
      } catch (error) {
        assert.ok(isError(error, "invalid_argument"), String(error));
      }
    }),
    { numRuns: 3000 },
  );
});
