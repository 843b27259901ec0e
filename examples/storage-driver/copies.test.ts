import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { runConformance } from "strata/storage-driver/conformance";
import { loadDriverModule } from "strata/storage-driver/driver-module";
import { loopHome, scratchHome } from "strata/storage-driver/scratch-home";

const path = new URL("./copies.mjs", import.meta.url).pathname;
const factory = await loadDriverModule(path);

runConformance({ name: "an outside driver on the scratch filesystem", factory, makeHome: scratchHome });
runConformance({ name: "an outside driver on xfs", factory, makeHome: () => loopHome("xfs") });

test("where files can share blocks, a child takes none for its files' contents", async () => {
  await using place = await loopHome("xfs");
  const home = join(place.path, "copies");
  // The pool is for drivers that walk trees in it; this one runs cp.
  const pool = {
    run: () => Promise.reject(new Error("not used")),
    stream: () => assert.fail("not used"),
    [Symbol.asyncDispose]: async () => undefined,
  };
  await using driver = await factory.open(home, {}, { pool });
  assert.deepEqual(await driver.status(), [["Shares Blocks", "true"]]);
  mkdirSync(join(home, "kept/base"));
  writeFileSync(join(home, "kept/base/large"), Buffer.alloc(64 << 20, "x"));
  const used = (): number => {
    execFileSync("sync", ["-f", home]);
    return Number(
      execFileSync("stat", ["-f", "-c", "%b %f", home], { encoding: "utf8" })
        .split(" ")
        .reduce((all, free) => `${Number(all) - Number(free)}`),
    );
  };
  const before = used();
  await driver.createWritable({ id: "child", parents: ["base"] }, {});
  assert.ok((used() - before) * 4096 < 8 << 20, "the copy took blocks of its own");
});
