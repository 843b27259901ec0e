import assert from "node:assert/strict";
import { test } from "node:test";
import * as v from "valibot";
import { decodeShape, integer, looseObject, textMap, words } from "./shape.ts";

const shape = looseObject({
  Name: v.string(),
  Count: v.nullish(integer),
  Cmd: v.nullish(words),
  Labels: v.nullish(textMap),
  Level: v.optional(v.picklist(["low", "high"])),
});

const said = (value: unknown): string => {
  const decoded = decodeShape(shape, value);
  assert.ok(!decoded.ok);
  return `${decoded.path}: ${decoded.problem}`;
};

test("a good value is decoded, with members that the shape does not know", () => {
  const decoded = decodeShape(shape, { Name: "a", Cmd: "ls", Other: 1 });
  assert.deepEqual(decoded, { ok: true, value: { Name: "a", Cmd: ["ls"], Other: 1 } });
});

test("what is wrong is told by path and kind, never by the value", () => {
  for (const [value, expected] of [
    [{}, "Name: Invalid input: it is missing"],
    [["a"], ": Invalid input: expected object, received array"],
    ["secret", ": Invalid input: expected object, received string"],
    [{ Name: 12345 }, "Name: Invalid input: expected string, received number"],
    [{ Name: "a", Count: 1.5 }, "Count: Invalid input: expected integer, received number"],
    [{ Name: "a", Cmd: { secret: 1 } }, "Cmd: Invalid input: expected one of string|array, received object"],
    [{ Name: "a", Labels: { a: 1 } }, "Labels: Invalid input: expected object of strings, received object"],
    [{ Name: "a", Level: "secret" }, 'Level: Invalid input: expected one of "low"|"high", received string'],
  ] as const)
    assert.equal(said(value), expected);
});

test("a map keeps every key that a stranger may choose", () => {
  const labels = JSON.parse('{"constructor":"a","prototype":"b","hasOwnProperty":"c"}');
  const decoded = decodeShape(shape, { Name: "a", Labels: labels });
  assert.ok(decoded.ok);
  assert.deepEqual(Object.entries(decoded.value.Labels ?? {}), Object.entries(labels));
});

test("a strict shape tells of a member that it does not know", () => {
  const decoded = decodeShape(v.strictObject({ a: v.optional(v.string()) }), { b: 1 });
  assert.ok(!decoded.ok && decoded.unknownKey);
});
