import assert from "node:assert/strict";
import { test } from "node:test";
import { humanSize, parseSize } from "./size.ts";

test("sizes are read with units of 1024, with or without b and ib", () => {
  assert.deepEqual(["10", "1k", "10m", "1.5g", "2MB", "3 KiB", "1p"].map(parseSize), [
    10,
    1024,
    10 * 1024 ** 2,
    1.5 * 1024 ** 3,
    2 * 1024 ** 2,
    3072,
    1024 ** 5,
  ]);
});

test("what is no size is refused by name", () => {
  for (const text of ["", "m", "-1", "1x", "1 2", "0x10", "1e3"])
    assert.throws(() => parseSize(text), { code: "invalid_argument", message: `invalid size: '${text}'` });
});

test("sizes are told with units of 1000 and four digits", () => {
  assert.deepEqual([0, 999, 1000, 50 * 1024 ** 2, 10 * 1024 ** 3].map(humanSize), [
    "0B",
    "999B",
    "1kB",
    "52.43MB",
    "10.74GB",
  ]);
});
