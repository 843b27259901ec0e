import assert from "node:assert/strict";
import { test } from "node:test";
import { findDuration, parseDuration } from "./duration.ts";
import { isError } from "./errors.ts";
import { parseTimestamp } from "./timestamp.ts";

test("durations read as Go reads them", () => {
  const table: readonly (readonly [string, number | undefined])[] = [
    ["0", 0],
    ["1s", 1e9],
    ["1h30m", 5400e9],
    ["1.5s", 1.5e9],
    [".5s", 5e8],
    ["1.s", 1e9],
    ["-2m", -120e9],
    ["100ms", 1e8],
    ["1us", 1000],
    ["1µs", 1000],
    ["", undefined],
    ["1", undefined],
    ["1d", undefined],
    ["s", undefined],
    ["1 s", undefined],
    ["1s\n", undefined],
  ];
  for (const [text, expected] of table) assert.equal(findDuration(text), expected, text);
  assert.throws(() => parseDuration("1d"), /time: invalid duration "1d"/);
});

test("points in time read as Docker's filters mean them", () => {
  const now = Date.UTC(2026, 0, 2);
  assert.equal(parseTimestamp("24h", now), Date.UTC(2026, 0, 1));
  assert.equal(parseTimestamp("1136073600"), 1136073600000);
  assert.equal(parseTimestamp("1136073600.5"), 1136073600500);
  assert.equal(parseTimestamp("2006-01-02T15:04:05Z"), Date.UTC(2006, 0, 2, 15, 4, 5));
  assert.equal(parseTimestamp("2006-01-02T15:04:05.25+01:00"), Date.UTC(2006, 0, 2, 14, 4, 5, 250));
  assert.equal(parseTimestamp("2006-01-02T15Z"), Date.UTC(2006, 0, 2, 15));
  assert.equal(parseTimestamp("2006-01-02T15:04"), new Date(2006, 0, 2, 15, 4).getTime());
  assert.equal(parseTimestamp("2006-01-02"), new Date(2006, 0, 2).getTime());
  for (const text of ["", "yesterday", "2006-13-02", "2006-1-2", "1h2"])
    assert.throws(
      () => parseTimestamp(text),
      (error) => isError(error, "invalid_argument"),
      text,
    );
});
