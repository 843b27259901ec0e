import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { linkSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { mountAll, unmountAll } from "../host/mount.ts";
import { pictureOf } from "../host/tree-picture.ts";
import { matchTree, unmatchedPaths } from "./match-tree.ts";
import { changeTree, randomOf } from "./random-changes.fixture.ts";
import { scratch } from "./tree.fixture.ts";

const seed = Number(process.env.STRATA_SEED ?? Date.now() % 1_000_000);
const runs = Number(process.env.STRATA_RUNS ?? 8);
const { signal } = new AbortController();
const copy = (from: string, to: string): void => void execFileSync("cp", ["-a", from, to]);
/** The root's line too, and no times of reading. */
const sameTrees = (target: string, source: string, what: string): void =>
  assert.deepEqual(pictureOf(target), pictureOf(source), what);

test("a tree that was changed at random is matched exactly, against its base and against the target alone", () => {
  for (let run = 0; run < runs; run++) {
    using folder = scratch();
    const random = randomOf(seed + run);
    const [base, source] = [folder.sub("base"), folder.sub("source")];
    mkdirSync(base);
    changeTree(base, random, 40);
    copy(base, source);
    changeTree(source, random, 1 + random(30));
    for (const [name, more] of [
      ["against", { base }],
      ["alone", {}],
    ] as const) {
      const target = folder.sub(name);
      copy(base, target);
      matchTree({ source, target, ...more }, signal);
      sameTrees(target, source, `STRATA_SEED=${seed + run} ${name}`);
      assert.deepEqual(unmatchedPaths({ source, target, ...more }, signal), []);
    }
  }
});

test("the changes of an overlay are matched by what stands in its upper", () => {
  for (let run = 0; run < runs; run++) {
    using folder = scratch();
    const random = randomOf(seed + run);
    const [lower, upper, work, target] = ["lower", "upper", "work", "target"].map((name) => folder.sub(name)) as [
      string,
      string,
      string,
      string,
    ];
    for (const path of [lower, upper, work, folder.sub("source")]) mkdirSync(path);
    changeTree(lower, random, 30);
    const source = folder.sub("source");
    mountAll([{ kind: "overlay", lower: [lower], upper, work, options: [] }], source);
    try {
      changeTree(source, random, 1 + random(30));
      copy(lower, target);
      matchTree({ source, target, upper }, signal);
      sameTrees(target, source, `STRATA_SEED=${seed + run}`);
    } finally {
      unmountAll(source);
    }
  }
});

test("what is equal already is not touched: an overlay target copies up only what the container changed", () => {
  using folder = scratch();
  const names = ["base", "source", "upper", "work", "target"];
  const [base, source, upper, work, target] = names.map((name) => folder.sub(name)) as [
    string,
    string,
    string,
    string,
    string,
  ];
  for (const path of [base, upper, work, target]) mkdirSync(path);
  mkdirSync(join(base, "etc"));
  for (const name of ["etc/a", "etc/b", "big"]) writeFileSync(join(base, name), name);
  copy(base, source);
  writeFileSync(join(source, "etc/b"), "changed");
  mountAll([{ kind: "overlay", lower: [base], upper, work, options: [] }], target);
  try {
    matchTree({ source, target, base }, signal);
    assert.deepEqual(readdirSync(upper, { recursive: true }).toSorted(), ["etc", "etc/b"]);
    // An upper's root has attributes of its own, which nobody asked to change.
    assert.deepEqual(pictureOf(target).slice(1), pictureOf(source).slice(1));
  } finally {
    unmountAll(target);
  }
});

test("what differs is told by path, and nothing is changed by looking", () => {
  using folder = scratch();
  const [source, target] = [folder.sub("source"), folder.sub("target")];
  for (const path of [source, target]) mkdirSync(path);
  writeFileSync(join(source, "file"), "1");
  writeFileSync(join(target, "file"), "2");
  symlinkSync("x", join(source, "link"));
  linkSync(join(source, "file"), join(source, "name"));
  const before = pictureOf(target);
  assert.deepEqual(unmatchedPaths({ source, target }, signal).slice(0, 3), ["file", "link", "name"]);
  assert.deepEqual(pictureOf(target), before);
});
