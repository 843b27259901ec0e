import assert from "node:assert/strict";
import { test } from "node:test";
import { History, type Listing } from "./history.ts";

const listed = (...images: readonly string[]): Listing => ({
  image: new Set(images),
  container: new Set(),
  volume: new Set(),
});

test("what must be there after a cut depends on its moment", () => {
  const history = new History(listed("old"));
  history.note("image", "new", "begun", 10);
  history.note("image", "new", "made", 20);
  history.note("image", "old", "removal begun", 30);
  history.note("image", "old", "removed", 40);
  const cases: readonly (readonly [number, Listing, readonly string[]])[] = [
    [10, listed("old"), []],
    [10, listed("old", "new"), ["image new is there, though nobody had asked for it yet"]],
    [15, listed("old", "new"), []],
    [15, listed("old"), []],
    [20, listed("old"), ["acknowledged image new is gone"]],
    [30, listed("new"), ["acknowledged image old is gone"]],
    [35, listed("new"), []],
    [40, listed("new"), []],
    [40, listed("old", "new"), ["image old is there, though its removal was acknowledged"]],
  ];
  for (const [moment, there, complaints] of cases)
    assert.deepEqual(history.complaints(moment, there), complaints, `a cut at ${moment} leaves ${[...there.image]}`);
  assert.equal(history.acknowledged(25), 2);
  assert.deepEqual(history.present("image", 25), ["old", "new"]);
});
