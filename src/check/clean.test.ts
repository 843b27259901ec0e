import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { overlay2 } from "../storage-driver/overlay2/driver.ts";
import { vfs } from "../storage-driver/vfs/driver.ts";
import { DataRoot } from "./data-root.fixture.ts";

for (const factory of [overlay2, vfs])
  test(`${factory.name}: a sound data root has no problems, and everything in it was looked at`, async () => {
    await using root = await DataRoot.make(factory);
    const { problems, checked } = await root.check();
    assert.deepEqual(problems, []);
    const { bytes, ...counts } = checked;
    assert.ok(bytes > 20_000);
    assert.deepEqual(counts, {
      layers: 3,
      unverified: 0,
      images: 2,
      containers: 1,
      volumes: 2,
      drivers: [factory.name],
    });
  });
