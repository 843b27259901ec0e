import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { parseDockerfile } from "./parse-dockerfile.ts";
import { splitStages } from "./stages.ts";

const args = (text: string): readonly string[] =>
  parseDockerfile(text).map((found) => `${found.keyword} ${found.args}`);
const refusal = (message: string) => ({ code: "invalid_argument", message });

describe("a Dockerfile", () => {
  const cases: readonly (readonly [title: string, text: string, expected: readonly string[]])[] = [
    ["keywords in any case", "from a\nrUn x", ["FROM a", "RUN x"]],
    ["comments and empty lines", "# c\n\nFROM a\n  # c\nRUN x # not a comment\n", ["FROM a", "RUN x # not a comment"]],
    ["lines that go on keep their blanks", "RUN a \\\n   b\\\nc", ["RUN a    bc"]],
    ["blanks after the escape character", "RUN a \\  \n b", ["RUN a  b"]],
    ["comments and empty lines in between", "RUN a \\\n# c\n\n  # c \\\n && b", ["RUN a  && b"]],
    ["another escape character", "# escape=`\nRUN a `\n b \\\nRUN c", ["RUN a  b \\", "RUN c"]],
    ["a directive after a comment is a comment", "# c\n# escape=`\nRUN a \\\n b", ["RUN a  b"]],
    ["the syntax directive means nothing here", "# syntax=docker/dockerfile:1\nFROM a", ["FROM a"]],
    ["lines that end as on Windows", "FROM a\r\nRUN b \\\r\n c\r\n", ["FROM a", "RUN b  c"]],
    ["a byte order mark", "\uFEFFFROM a", ["FROM a"]],
    ["JSON form is not touched", 'CMD ["a", "b c"]', ['CMD ["a", "b c"]']],
    ["an escape at the very end", "RUN a \\", ["RUN a"]],
  ];
  for (const [title, text, expected] of cases) test(title, () => assert.deepEqual(args(text), expected));

  test("flags stand before the arguments, quoted or not", () => {
    const [copy] = parseDockerfile(
      'COPY --from=b --chown="1:2" --flag-like a --not=flag /c/'.replace(" --flag-like", ""),
    );
    assert.deepEqual(
      [...(copy?.flags ?? [])],
      [
        ["from", "b"],
        ["chown", "1:2"],
      ],
    );
    assert.equal(copy?.args, "a --not=flag /c/");
    const [check] = parseDockerfile("HEALTHCHECK --interval=5s --retries=3 CMD x --y");
    assert.deepEqual([check?.flags.get("retries"), check?.args], ["3", "CMD x --y"]);
  });

  test("the step is called what stands there, in one line, and blamed by its line", () => {
    const [, run] = parseDockerfile("FROM a\n\n\nrun x \\\n  y");
    assert.deepEqual([run?.text, run?.line], ["run x   y", 4]);
  });

  test("a heredoc of RUN is its script", () => {
    const [first, second] = parseDockerfile("RUN <<EOF\necho a\n  # kept\necho $b\nEOF\nRUN <<-'X'\n\techo c\n\tX\n");
    assert.equal(first?.heredoc, "echo a\n  # kept\necho $b\n");
    assert.equal(second?.heredoc, "echo c\n");
  });

  const refused: readonly (readonly [string, string | RegExp])[] = [
    ["FROM a\n\nFOO x\n", "dockerfile parse error on line 3: unknown instruction: FOO"],
    ["", "failed to parse Dockerfile: file with no instructions"],
    ["# only\n\n", "failed to parse Dockerfile: file with no instructions"],
    ["FROM a\nCOPY --bogus=1 a b", "dockerfile parse error on line 2: unknown flag: bogus"],
    ["FROM a\nRUN --mount=type=cache,target=/x true", /on line 2: the --mount option of RUN requires BuildKit/],
    ["FROM a\nCOPY --link a b", /the --link option of COPY requires BuildKit/],
    ["FROM a\nCOPY <<EOF /x\nhi\nEOF", /on line 2: this form of heredoc needs BuildKit/],
    ["FROM a\nRUN cat <<EOF && x\nhi\nEOF", /this form of heredoc needs BuildKit/],
  ];
  for (const [text, message] of refused)
    test(`${JSON.stringify(text)} is refused`, () =>
      assert.throws(() => parseDockerfile(text), { code: "invalid_argument", message }));

  test("whatever a stranger writes, it is parsed or refused", () => {
    const line = fc.oneof(
      fc.string({ maxLength: 30 }),
      fc.constantFrom("RUN <<EOF", "EOF", "FROM a", "RUN x \\", "# c", "COPY --from=", "ONBUILD RUN <<X", "\\", "`"),
    );
    fc.assert(
      fc.property(fc.array(line, { maxLength: 8 }), (lines) => {
        try {
          splitStages(parseDockerfile(lines.join("\n")), undefined);
        } catch (error) {
          assert.equal(error instanceof Error && "code" in error && error.code, "invalid_argument", String(error));
        }
      }),
      { numRuns: 500 },
    );
  });
});

describe("stages", () => {
  const stages = (text: string, target?: string) => splitStages(parseDockerfile(text), target);

  test("ARGs stand before the first FROM, the rest in stages; names in any case", () => {
    const split = stages("ARG V=1\nFROM a:$V AS One\nRUN x\nFROM one\nRUN y");
    assert.deepEqual(
      split.globals.map(({ args: words }) => words),
      ["V=1"],
    );
    assert.deepEqual(
      split.stages.map(({ name, base, instructions }) => [name, base, instructions.length]),
      [
        ["one", "a:$V", 1],
        [undefined, "one", 1],
      ],
    );
  });

  test("a target by name or number ends the build there", () => {
    const text = "FROM a AS x\nFROM b AS y\nFROM c";
    assert.deepEqual(
      ["X", "0", "y", "2"].map((target) => stages(text, target).stages.length),
      [1, 1, 2, 3],
    );
    for (const target of ["z", "3", "-1"])
      assert.throws(() => stages(text, target), refusal(`failed to reach build target ${target} in Dockerfile`));
  });

  const line2 = (message: string) => `dockerfile parse error on line 2: ${message}`;
  const refused: readonly (readonly [string, string])[] = [
    ["RUN x", "no build stage in current context"],
    ["ARG x", "no build stage in current context"],
    ["FROM", "dockerfile parse error on line 1: FROM requires either one or three arguments"],
    ["FROM a b", "dockerfile parse error on line 1: FROM requires either one or three arguments"],
    [
      "FROM a AS 1x",
      'dockerfile parse error on line 1: invalid name for build stage: "1x", name can\'t start with a number or contain symbols',
    ],
    ["FROM a\nWORKDIR", line2("WORKDIR requires exactly one argument")],
    ["FROM a\nUSER", line2("USER requires exactly one argument")],
    ["FROM a\nARG", line2("ARG requires at least one argument")],
    ["FROM a\nVOLUME", line2("VOLUME requires at least one argument")],
    ["FROM a\nRUN", line2("RUN requires at least one argument")],
    ["FROM a\nSHELL /bin/sh", line2("SHELL requires the arguments to be in JSON form")],
    ["FROM a\nENV A", line2("ENV must have two arguments")],
    ["FROM a\nENV A=1 B", line2('Syntax error - can\'t find = in "B". Must be of the form: name=value')],
    ["FROM a\nLABEL a", line2("LABEL must have two arguments")],
    ["FROM a\nHEALTHCHECK CMD", line2("Missing command after HEALTHCHECK CMD")],
    [
      "FROM a\nCOPY f",
      line2("COPY requires at least two arguments, but only one was provided. Destination could not be determined"),
    ],
    ["FROM a\nONBUILD FROM x", line2("FROM isn't allowed as an ONBUILD trigger")],
    ["FROM a\nONBUILD onbuild RUN x", line2("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")],
  ];
  for (const [text, message] of refused)
    test(`${JSON.stringify(text)} is refused`, () => assert.throws(() => stages(text), refusal(message)));
});
