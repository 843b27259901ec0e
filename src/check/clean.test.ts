import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { lockFile } from "../host/lock.ts";
import { overlay2 } from "../storage-driver/overlay2/driver.ts";
import { vfs } from "../storage-driver/vfs/driver.ts";
import { checkDataRoot } from "./check.ts";
import { containerId, DataRoot } from "./data-root.fixture.ts";

for (const factory of [overlay2, vfs])
  test(`${factory.name}: a sound data root has no problems, and everything in it was looked at`, async () => {
    await using root = await DataRoot.make(factory);
    const { problems, checked } = await root.check();
    assert.deepEqual(problems, []);
    assert.deepEqual((await root.check()).problems, [], "looking changes nothing");
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

test("a container whose image was removed by force goes on without it, and is no problem", async () => {
  await using root = await DataRoot.make(vfs);
  const hold = "INSERT INTO layer_owners (owner, layer) SELECT ?, id FROM layer_layers WHERE chain_id = ?";
  root.sql(hold, `container:${containerId}`, root.top);
  root.sql("DELETE FROM image_reference WHERE image = ?", root.app);
  root.sql("DELETE FROM layer_owners WHERE owner = ?", `image:${root.app}`);
  root.sql("DELETE FROM image WHERE id = ?", root.app);
  assert.deepEqual(await root.kinds(), []);
});

test("a check is refused while somebody has the data root, by the holder's pid", async () => {
  await using root = await DataRoot.make(vfs);
  await using _lock = lockFile(join(root.root, "strata.pid"));
  await assert.rejects(root.check(), { code: "conflict", message: new RegExp(`process ${process.pid};`) });
});

test("a damaged database is the one problem that is told, and nothing is repaired from it", async () => {
  await using root = await DataRoot.make(vfs);
  const file = join(root.root, "meta.db");
  root.run("sh", "-c", 'dd if=/dev/urandom of="$0" bs=4096 seek=2 count=3 conv=notrunc 2>/dev/null', file);
  assert.deepEqual(await root.kinds({ repair: true }), ["database-damaged"]);
  root.run("truncate", "-s", "1000", file);
  assert.deepEqual(await root.kinds({ repair: true }), ["database-damaged"]);
  const layers = join(root.root, "vfs/dir");
  assert.ok(readdirSync(layers).length > 0, "the layers are still there");
});

test("a data root that is none cannot be checked", async () => {
  await assert.rejects(checkDataRoot({ dataRoot: "/nonexistent", execRoot: "/nonexistent" }), { code: "not_found" });
});

test("strata check prints one document with --json, and its exit code says what it found", async () => {
  await using root = await DataRoot.make(vfs);
  const main = new URL("../cli/main.ts", import.meta.url).pathname;
  const roots = ["--data-root", root.root, "--exec-root", root.execRoot];
  const strata = (...flags: readonly string[]) =>
    spawnSync(process.execPath, [main, "check", ...roots, ...flags], { encoding: "utf8" });
  root.run("mkdir", join(root.root, "vfs/dir/abc"));
  const found = strata("--json");
  assert.equal(found.status, 1, found.stderr);
  const { problems } = JSON.parse(found.stdout);
  assert.deepEqual(
    problems.map(({ kind }: { readonly kind: string }) => kind),
    ["layer-data-unknown"],
  );
  assert.equal(strata("--repair").status, 0);
  const clean = strata();
  assert.equal(clean.status, 0);
  assert.match(clean.stdout, /nothing is wrong/);
  const wrong = spawnSync(process.execPath, [main, "check", "--data-root", "/nonexistent"], { encoding: "utf8" });
  assert.equal(wrong.status, 2);
});
