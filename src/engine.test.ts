/** What the engine as a whole does when it starts. */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { openEngine } from "./engine.ts";

test("a start takes away what a killed engine was unpacking for a load and for a build", async () => {
  const root = mkdtempSync(join(tmpdir(), "strata-engine-"));
  try {
    const left = ["data/staging/load-1-aa", "data/staging-build/build-1-bb/deep/er"].map((path) => join(root, path));
    for (const path of left) {
      mkdirSync(path, { recursive: true });
      writeFileSync(join(path, "file"), "half of it");
    }
    await using engine = await openEngine({
      dataRoot: join(root, "data"),
      execRoot: join(root, "exec"),
      storageDriver: "vfs",
    });
    for (const folder of ["staging", "staging-build"])
      assert.deepEqual(readdirSync(join(engine.dataRoot, folder)), [], folder);
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
});
