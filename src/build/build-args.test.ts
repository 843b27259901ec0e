import assert from "node:assert/strict";
import { test } from "node:test";
import { BuildArgs, parseArg } from "./build-args.ts";

test("an argument is seen only after its ARG, and only in its stage", () => {
  const args = new BuildArgs({ X: "given" });
  assert.equal(args.inStage("X"), undefined);
  args.declare("X", "default");
  assert.equal(args.inStage("X"), "given");
  args.beginStage();
  assert.equal(args.inStage("X"), undefined);
});

test("what the client gives wins over the default; null is not given", () => {
  const args = new BuildArgs({ A: "given", B: null });
  for (const name of ["A", "B", "C"]) args.declare(name, "default");
  assert.deepEqual(["A", "B", "C"].map(args.inStage), ["given", "default", "default"]);
});

test("an ARG before FROM is for FROM, and for stages that declare it again", () => {
  const args = new BuildArgs({ G2: "given" });
  args.declareGlobal("G1", "global");
  args.declareGlobal("G2", "global");
  assert.deepEqual(["G1", "G2"].map(args.inFrom), ["global", "given"]);
  assert.equal(args.inStage("G1"), undefined);
  args.declare("G1", undefined);
  assert.equal(args.inStage("G1"), "global");
  args.declare("G1", "own");
  assert.equal(args.inStage("G1"), "own");
});

test("RUN gets what the image does not set itself; proxies without ARG, and not in the history", () => {
  const args = new BuildArgs({ HTTP_PROXY: "http://p", B: "2", Z: "9" });
  args.declare("B", undefined);
  args.declare("A", "1");
  args.declare("NEVER", undefined);
  args.declare("Z", undefined);
  const environment = args.forRun(["Z=of the image", "PATH=/bin"]);
  assert.deepEqual(environment, ["A=1", "B=2", "HTTP_PROXY=http://p"]);
  assert.deepEqual(args.inHistory(environment), ["A=1", "B=2"]);
  args.declare("HTTP_PROXY", undefined);
  assert.deepEqual(args.inHistory(environment), environment);
});

test("what no ARG asks for is told", () => {
  const args = new BuildArgs({ USED: "1", TYPO: "1", https_proxy: "x" });
  args.declare("USED", undefined);
  assert.deepEqual(args.unused(), ["TYPO"]);
});

test("ARG takes several names, with quotes and variables", () => {
  const variables = (name: string) => (name === "V" ? "v" : undefined);
  const parsed = parseArg({ args: `A B=1 C="two words" D=$V E=\${N:-d} F=`, escapeChar: "\\" }, variables);
  assert.deepEqual(parsed, [
    ["A", undefined],
    ["B", "1"],
    ["C", "two words"],
    ["D", "v"],
    ["E", "d"],
    ["F", ""],
  ]);
});
