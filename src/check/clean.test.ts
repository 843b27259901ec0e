import assert from "node:assert/strict";
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

test("what was removed and waits to be deleted is no problem: its bytes are told, and repair deletes it", async () => {
  await using root = await DataRoot.make(overlay2);
  const trash = join(root.root, "overlay2/trash");
  for (const name of ["0123456789abcdef01234567", ".76543210fedcba9876543210", ".trial-a1B2c3"]) {
    root.run("mkdir", "-p", join(trash, name, "diff"));
    root.run("truncate", "-s", "1000", join(trash, name, "diff/file"));
  }
  const found = await root.check();
  assert.deepEqual(found.problems, []);
  assert.deepEqual(found.awaitingRemoval, { trees: 3, bytes: 3000 });
  const strata = root.strata();
  assert.equal(strata.status, 0, strata.stderr);
  assert.match(strata.stdout, /^awaiting removal: 3 trees, 3000 bytes; the daemon deletes them, and --repair does$/m);
  assert.match(strata.stdout, /^nothing is wrong$/m);
  assert.equal(readdirSync(trash).length, 3, "looking changes nothing");
  const repaired = await root.check({ repair: true });
  assert.deepEqual([repaired.problems, repaired.awaitingRemoval], [[], { trees: 0, bytes: 0 }]);
  assert.deepEqual(readdirSync(trash), []);
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
  const strata = (...flags: readonly string[]) => root.strata(...flags);
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
  const wrong = root.strata("--data-root", "/nonexistent");
  assert.equal(wrong.status, 2);
});
