// biome-ignore-all lint/suspicious/noTemplateCurlyInString: these are a Dockerfile's variables
import assert from "node:assert/strict";
import { test } from "node:test";
import { isError } from "../base/errors.ts";
import type { RunConfig } from "../base/oci.ts";
import { applyChanges } from "./change.ts";

const accepted: readonly (readonly [readonly string[], RunConfig, RunConfig?])[] = [
  [[], {}],
  [['CMD ["a", "b c"]'], { Cmd: ["a", "b c"] }],
  [["CMD echo  $HOME 'x y'"], { Cmd: ["/bin/sh", "-c", "echo  $HOME 'x y'"] }],
  [["cmd ['a']"], { Cmd: ["/bin/sh", "-c", "['a']"] }],
  [["CMD []"], { Cmd: [] }],
  [["CMD"], { Cmd: [] }],
  [["CMD x"], { Shell: ["/bin/bash", "-c"], Cmd: ["/bin/bash", "-c", "x"] }, { Shell: ["/bin/bash", "-c"] }],
  [['ENTRYPOINT ["/e"]'], { Entrypoint: ["/e"], Cmd: null }, { Cmd: ["old"] }],
  [["CMD new", 'ENTRYPOINT ["/e"]'], { Cmd: ["/bin/sh", "-c", "new"], Entrypoint: ["/e"] }, { Cmd: ["old"] }],
  [["ENTRYPOINT []"], { Entrypoint: null, Cmd: null }, { Entrypoint: ["/e"] }],
  [["ENV A=1 B=\"2 3\" C='$A'"], { Env: ["A=1", "B=2 3", "C=$A"] }],
  [["ENV A one two"], { Env: ["A=one two"] }],
  [["ENV A=new", "ENV B=${A}x"], { Env: ["A=new", "B=newx"] }, { Env: ["A=old"] }],
  [["ENV PATH=$PATH:/x"], { Env: ["PATH=/bin:/x"] }, { Env: ["PATH=/bin"] }],
  [
    ["EXPOSE 80 53/udp 8000-8002"],
    { ExposedPorts: { "80/tcp": {}, "53/udp": {}, "8000/tcp": {}, "8001/tcp": {}, "8002/tcp": {} } },
  ],
  [['LABEL a=b c="d e"', "LABEL a=z"], { Labels: { a: "z", c: "d e", old: "1" } }, { Labels: { old: "1" } }],
  [['ONBUILD RUN make "x"'], { OnBuild: ['RUN make "x"'] }],
  [["USER ${WHO:-nobody}"], { User: "nobody" }],
  [['VOLUME ["/a b", "/c"]', "VOLUME /d /e"], { Volumes: { "/a b": {}, "/c": {}, "/d": {}, "/e": {} } }],
  [["WORKDIR /a", "WORKDIR b/../c/"], { WorkingDir: "/a/c" }],
  [["WORKDIR ../../x"], { WorkingDir: "/x" }],
  [["STOPSIGNAL SIGKILL"], { StopSignal: "SIGKILL" }],
  [["STOPSIGNAL 9"], { StopSignal: "9" }],
  [["HEALTHCHECK NONE"], { Healthcheck: { Test: ["NONE"] } }],
  [
    ["HEALTHCHECK --interval=5s --timeout=1m --retries=3 CMD curl -f x"],
    { Healthcheck: { Test: ["CMD-SHELL", "curl -f x"], Interval: 5e9, Timeout: 60e9, Retries: 3 } },
  ],
  [['HEALTHCHECK CMD ["curl", "x"]'], { Healthcheck: { Test: ["CMD", "curl", "x"] } }],
  [["ENV A=1 \\\n  B=2\nUSER u"], { Env: ["A=1", "B=2"], User: "u" }],
  [["# only a comment"], {}],
];

test("instructions change the run config as Docker's do", async () => {
  for (const [instructions, expected, before = {}] of accepted)
    assert.deepEqual(await applyChanges(before, instructions), expected, JSON.stringify(instructions));
});

const refused: readonly (readonly [string, RegExp])[] = [
  ["RUN x", /^RUN is not a valid change command$/],
  ["FROM x", /^FROM is not a valid change command$/],
  ["copy a b", /^COPY is not a valid change command$/],
  ["NONSENSE", /^NONSENSE is not a valid change command$/],
  ["ENV A", /^ENV must have two arguments$/],
  ["ENV", /requires at least one argument/],
  ["ENV A=1 B", /can't find = in "B"/],
  ["ENV =x", /ENV names can not be blank/],
  ["LABEL a='b", /matching single-quote/],
  ["EXPOSE x", /Invalid containerPort: x/],
  ["EXPOSE 70000", /Invalid containerPort: 70000/],
  ["EXPOSE 80/foo", /Invalid proto: foo/],
  ["ONBUILD ONBUILD RUN x", /Chaining ONBUILD/],
  ["ONBUILD FROM x", /FROM isn't allowed as an ONBUILD trigger/],
  ["STOPSIGNAL SIGNONSENSE", /Invalid signal: SIGNONSENSE/],
  ["HEALTHCHECK", /requires at least one argument/],
  ["HEALTHCHECK CMD", /Missing command/],
  ["HEALTHCHECK FOO x", /Unknown type "FOO"/],
  ["HEALTHCHECK --interval=x CMD y", /invalid duration "x"/],
  ["HEALTHCHECK --interval=1us CMD y", /cannot be less than 1ms/],
  ["HEALTHCHECK --nonsense=1 CMD y", /Unknown flag: nonsense/],
  ["VOLUME", /requires at least one argument/],
  ['VOLUME [""]', /can not be an empty string/],
  ["USER", /requires exactly one argument/],
];

test("what is no change is refused, and says so", async () => {
  for (const [instruction, message] of refused)
    await assert.rejects(
      applyChanges({}, [instruction]),
      (error) => isError(error, "invalid_argument") && message.test(error.message),
      instruction,
    );
});
