/** What the commands of volumes print: progress, the cost of copies, and sources. */
import assert from "node:assert/strict";
import { test } from "node:test";
import * as v from "valibot";
import { barText, duration, plainText } from "./progress.ts";
import { costText, finished, pathOf, sourceOf } from "./volume-messages.ts";

const GB = 1_000_000_000;

test("progress says how much, how fast and how long, as far as that is known", () => {
  for (const [progress, rate, text] of [
    [{ step: "copying", bytes: 1.2 * GB, totalBytes: 3 * GB }, 120_000_000, "copying 1.2GB of 3GB, 120MB/s, 15s left"],
    [{ step: "copying", bytes: 1.2 * GB, totalBytes: 3 * GB }, undefined, "copying 1.2GB of 3GB"],
    [{ step: "exporting", bytes: 500 }, 10, "exporting 500B, 10B/s"],
    [{ step: "copying", bytes: 5, totalBytes: 5 }, 5, "copying 5B of 5B, 5B/s"],
    [{ step: "copying", bytes: 0, totalBytes: 5 }, 0, "copying 0B of 5B, 0B/s"],
  ] as const)
    assert.equal(plainText(progress, rate), text);
  const half = { step: "x", bytes: GB, totalBytes: 2 * GB };
  assert.equal(barText(half, undefined, 80), `[${"=".repeat(12)}${" ".repeat(12)}] x 1GB of 2GB`);
  assert.equal(barText({ ...half, bytes: 9 * GB }, undefined, 80), `[${"=".repeat(24)}] x 9GB of 2GB`);
  assert.equal(barText(half, GB, 80), `[${"=".repeat(12)}${" ".repeat(12)}] x 1GB of 2GB, 1GB/s, 1s left`);
  assert.equal(barText(half, GB, 30), "[=======       ] x 1GB of 2GB");
  assert.equal(barText({ step: "x", bytes: GB }, undefined, 80), "x 1GB");
  assert.deepEqual([0.2, 59.5, 185, 7800].map(duration), ["1s", "1m00s", "3m05s", "2h10m"]);
});

test("a copy says what it cost, and when it is of no one moment", () => {
  const report = { Cost: "copy", ByStore: true, Bytes: 1.2 * GB, Seconds: 3.14, Consistent: true } as const;
  for (const [change, text] of [
    [{}, "copied 1.2GB in 3.1s; this driver has no cheaper way\n"],
    [
      { Consistent: false },
      "copied 1.2GB in 3.1s; this driver has no cheaper way; it was written to meanwhile, so this is of no one moment\n",
    ],
    [{ Cost: "constant", ByStore: false, Bytes: -1 }, "no data was copied (constant), 3.1s\n"],
    [{ Cost: "reflink", ByStore: false, Bytes: -1 }, "blocks are shared (reflink), 3.1s\n"],
    [{ ByStore: false, Bytes: -1 }, "the driver copied everything (copy), 3.1s\n"],
  ] as const)
    assert.equal(costText({ ...report, ...change }), text);
});

test("VOLUME@SNAPSHOT is split at the last @, and names are safe in a path", () => {
  assert.deepEqual(sourceOf("db"), { volume: "db", snapshot: "" });
  assert.deepEqual(sourceOf("db@a"), { volume: "db", snapshot: "a" });
  assert.deepEqual(sourceOf("a@b@c"), { volume: "a@b", snapshot: "c" });
  assert.deepEqual(sourceOf("@x"), { volume: "@x", snapshot: "" });
  assert.equal(pathOf("../a b", "clone"), "/strata/volumes/..%2Fa%20b/clone");
});

test("messages end with a result; an answer without one is an error", async () => {
  const line = { tell: (at: object) => void told.push(at), end: () => void told.push("end") };
  const told: unknown[] = [];
  const messages = async function* (...all: readonly unknown[]): AsyncGenerator<unknown> {
    yield* all;
  };
  const progress = { status: "copying", progressDetail: { current: 1, total: 2 } };
  assert.equal(await finished(messages(progress, { aux: "x" }), v.string(), line), "x");
  assert.deepEqual(told, [{ step: "copying", bytes: 1, totalBytes: 2 }, "end"]);
  await assert.rejects(finished(messages(progress), v.string(), line), /broke off/);
  await assert.rejects(finished(messages({ aux: 1 }), v.string(), line));
});
