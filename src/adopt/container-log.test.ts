import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { scratch } from "../archive/tree.fixture.ts";
import { convertLine, convertLog } from "./container-log.ts";

const time = "2026-11-21T12:12:10.327156545Z";
const json = (log: string, stream = "stdout"): string => JSON.stringify({ log, stream, time });

const lines: readonly (readonly [string, string, string])[] = [
  ["a line", json("text\n"), `${time} stdout F text\n`],
  ["a line of the other stream", json("text\n", "stderr"), `${time} stderr F text\n`],
  ["an empty line", json("\n"), `${time} stdout F \n`],
  ["a part of a line", json("part"), `${time} stdout P part\n`],
  ["two lines and a part", json("a\nb\nc"), `${time} stdout F a\n${time} stdout F b\n${time} stdout P c\n`],
  ["a terminal's line", json("x\r\n"), `${time} stdout F x\r\n`],
  ["attributes", JSON.stringify({ log: "x\n", stream: "stdout", attrs: { a: "b" }, time }), `${time} stdout F x\n`],
  ["nothing", json(""), ""],
  ["no JSON", "{", ""],
  ["no time", JSON.stringify({ log: "x\n", stream: "stdout", time: "yesterday" }), ""],
  ["no stream", JSON.stringify({ log: "x\n", time }), ""],
];

for (const [what, line, converted] of lines)
  test(`${what} of a json-file log becomes conmon's`, () => assert.equal(convertLine(line), converted));

test("rotated parts come oldest first, other files do not come, and a torn end is left out", async () => {
  using folder = scratch();
  const id = "c".repeat(64);
  const base = folder.sub(`${id}-json.log`);
  writeFileSync(base, `${json("newest\n")}\n{"log":"torn`);
  writeFileSync(`${base}.1`, `${json("middle\n")}\n`);
  writeFileSync(`${base}.2.gz`, gzipSync(`${json("older\n")}\n`));
  writeFileSync(`${base}.10.gz`, gzipSync(`${json("oldest\n")}\n`));
  writeFileSync(`${base}.tmp`, `${json("nobody's\n")}\n`);
  const target = folder.sub("log");
  assert.equal(await convertLog(folder.path, id, target), true);
  const texts = readFileSync(target, "utf8")
    .split("\n")
    .map((line) => line.split(" ").at(-1));
  assert.deepEqual(texts, ["oldest", "older", "middle", "newest", ""]);
  assert.equal(await convertLog(folder.path, "d".repeat(64), folder.sub("none")), false);
  assert.equal(existsSync(folder.sub("none")), false);
});
