/** What the engine as a whole does when it starts. */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { openEngine } from "./engine.ts";
import { bytes, tarOf } from "./layer/store.fixture.ts";

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

test("a start takes away layers whose image is gone: a kill came before their own removal", async () => {
  const root = mkdtempSync(join(tmpdir(), "strata-engine-"));
  const options = { dataRoot: join(root, "data"), execRoot: join(root, "exec"), storageDriver: "vfs" };
  try {
    {
      await using engine = await openEngine(options);
      await engine.layers.publish([await engine.layers.register(undefined, bytes(await tarOf({ path: "f" })))], []);
      assert.equal(engine.layers.list().length, 1);
    }
    await using engine = await openEngine(options);
    assert.deepEqual(engine.layers.list(), []);
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
});
