import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  closeSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { pictureOf } from "../host/tree-picture.ts";
import { Mirror, type Pass, type PassResult } from "./mirror-tree.ts";
import { changeTree, randomOf } from "./random-changes.fixture.ts";
import { scratch } from "./tree.fixture.ts";

const seed = Number(process.env.STRATA_SEED ?? Date.now() % 1_000_000);
const runs = Number(process.env.STRATA_RUNS ?? 8);

function mirrorOf(source: string, target: string) {
  const [from, to] = [openSync(source, "r"), openSync(target, "r")];
  const mirror = new Mirror(from, to, new AbortController().signal);
  const pass = (options: Pass, during: () => void = () => undefined): PassResult => {
    const steps = mirror.pass(options);
    for (;;) {
      const { done, value } = steps.next();
      if (done === true) return value;
      during();
    }
  };
  const end = (): void => {
    closeSync(from);
    closeSync(to);
  };
  return { pass, [Symbol.dispose]: end };
}

test("a tree that changes at random between and during passes is the same after the last one, and proved to be", () => {
  for (let run = 0; run < runs; run++) {
    using folder = scratch();
    const random = randomOf(seed + run);
    const [source, target] = [folder.sub("source"), folder.sub("target")];
    for (const path of [source, target]) mkdirSync(path);
    changeTree(source, random, 40);
    using mirror = mirrorOf(source, target);
    for (let live = 0; live < 3; live++) {
      // as if everything were old enough to be believed
      const syncedAt = live === 2 ? undefined : Date.now() + 60_000;
      const changes = new Set([random(40), random(40)]);
      let step = 0;
      mirror.pass({ kind: "live", syncedAt, thorough: live === 1 }, () => {
        if (changes.has(step++)) changeTree(source, random, 2);
      });
      changeTree(source, random, 1 + random(8));
    }
    mirror.pass({ kind: "still" });
    assert.deepEqual(pictureOf(target), pictureOf(source), `STRATA_SEED=${seed + run}`);
    assert.deepEqual(mirror.pass({ kind: "compare" }).different, []);
    assert.deepEqual(pictureOf(target), pictureOf(source));
  }
});

test("a pass copies nothing again that was settled; what changed under its old size and time is seen by its ctime", () => {
  using folder = scratch();
  const [source, target] = [folder.sub("source"), folder.sub("target")];
  for (const path of [source, target]) mkdirSync(path);
  for (const name of ["same", "sly"]) writeFileSync(join(source, name), "one");
  const { atime, mtime } = statSync(join(source, "sly"));
  using mirror = mirrorOf(source, target);
  assert.equal(mirror.pass({ kind: "live", syncedAt: Date.now() + 60_000 }).copied, 6);
  assert.deepEqual(mirror.pass({ kind: "live" }), { changed: 0, copied: 0, missed: 0, different: [] });
  writeFileSync(join(source, "sly"), "two");
  utimesSync(join(source, "sly"), atime, mtime);
  assert.equal(mirror.pass({ kind: "still" }).copied, 3);
  assert.equal(readFileSync(join(target, "sly"), "utf8"), "two");
});

test("what was changed less than a moment before its sync is not believed: it is read again", () => {
  using folder = scratch();
  const [source, target] = [folder.sub("source"), folder.sub("target")];
  for (const path of [source, target]) mkdirSync(path);
  writeFileSync(join(source, "file"), "one");
  using mirror = mirrorOf(source, target);
  mirror.pass({ kind: "live", syncedAt: Date.now() });
  // behind the mirror's back, as a mapping's late write would
  writeFileSync(join(target, "file"), "bad");
  assert.equal(mirror.pass({ kind: "still" }).copied, 3);
});

test("damage of the copy is told by a comparison, unless both sides were read before", () => {
  using folder = scratch();
  const [source, target] = [folder.sub("source"), folder.sub("target")];
  for (const path of [source, target]) mkdirSync(path);
  writeFileSync(join(source, "file"), "one");
  writeFileSync(join(source, "other"), "x");
  linkSync(join(source, "other"), join(source, "second"));
  using mirror = mirrorOf(source, target);
  mirror.pass({ kind: "still", syncedAt: Date.now() + 60_000 });
  writeFileSync(join(target, "file"), "bad");
  rmSync(join(target, "second"));
  writeFileSync(join(target, "second"), "x");
  writeFileSync(join(target, "more"), "");
  const { different } = mirror.pass({ kind: "compare" });
  assert.deepEqual(
    different.filter((path) => path !== '"/"'),
    ['"/file"', '"/more"', '"/second"'],
  );
  assert.equal(readFileSync(join(target, "file"), "utf8"), "bad", "a comparison changes nothing");
});

test("names that were one inode and are two, or the reverse, are so in the copy too", () => {
  using folder = scratch();
  const [source, target] = [folder.sub("source"), folder.sub("target")];
  for (const path of [source, target]) mkdirSync(path);
  const at = (name: string): string => join(source, name);
  for (const name of ["a", "c", "d"]) writeFileSync(at(name), "same");
  linkSync(at("a"), at("b"));
  using mirror = mirrorOf(source, target);
  mirror.pass({ kind: "live", syncedAt: Date.now() + 60_000 });
  for (const name of ["b", "d"]) rmSync(at(name));
  writeFileSync(at("b"), "same");
  utimesSync(at("b"), statSync(at("a")).atime, statSync(at("a")).mtime);
  linkSync(at("c"), at("d"));
  mirror.pass({ kind: "still" });
  assert.deepEqual(pictureOf(target), pictureOf(source));
  const inode = (name: string): number => statSync(join(target, name)).ino;
  assert.notEqual(inode("a"), inode("b"));
  assert.equal(inode("c"), inode("d"));
});

test("holes stay holes, and a copy into itself is refused", () => {
  using folder = scratch();
  const [source, target] = [folder.sub("source"), folder.sub("target")];
  for (const path of [source, target]) mkdirSync(path);
  execFileSync("truncate", ["-s", "1G", join(source, "sparse")]);
  execFileSync(
    "dd",
    ["if=/dev/zero", `of=${join(source, "sparse")}`, "bs=4k", "count=1", "seek=1000", "conv=notrunc"],
    { stdio: "ignore" },
  );
  {
    using mirror = mirrorOf(source, target);
    mirror.pass({ kind: "still" });
  }
  assert.equal(statSync(join(target, "sparse")).size, 2 ** 30);
  assert.ok(statSync(join(target, "sparse")).blocks < 1000);
  mkdirSync(join(source, "inside"));
  using inside = mirrorOf(source, join(source, "inside"));
  assert.throws(() => inside.pass({ kind: "still" }), { code: "conflict" });
});
