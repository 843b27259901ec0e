import assert from "node:assert/strict";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { mountAll } from "../host/mount.ts";
import { detach } from "../host/mount-calls.ts";
import { overlay2 } from "../storage-driver/overlay2/driver.ts";
import { vfs } from "../storage-driver/vfs/driver.ts";
import { bytes, collectBytes, StoreBench, tarOf } from "./store.fixture.ts";

const base = await tarOf({ path: "etc/hosts", content: "hello" });
const child = await tarOf({ path: "etc/new", content: "1" });
const none = { storageOptions: {}, statements: [] };

for (const factory of [overlay2, vfs]) {
  test(`${factory.name}: what a crash left half done is gone at the next start, what was acknowledged stays`, async () => {
    await using bench = await StoreBench.open(factory);
    const kept = await bench.add(undefined, base, "image:a");
    await bench.store.createWritable("c1", kept.chainId, none);
    // Unpacked and not published.
    await bench.store.register(kept.chainId, bytes(child));
    // A record without data, data without a record, a stage that is mounted, a recipe and a mark of nobody.
    await bench.database.transact([
      {
        sql: "INSERT INTO layer_layers (id, driver, kind, state, parent) SELECT 'lost', driver, 'image', 'staging', id FROM layer_layers WHERE chain_id = ?",
        parameters: [kept.chainId],
      },
      {
        sql: "INSERT INTO layer_writables (data, id, driver, state, init, size) SELECT 'half', 'c2', driver, 'staging', init, 0 FROM layer_writables",
      },
      {
        sql: "INSERT INTO layer_writables (data, id, driver, state, size) VALUES ('going', 'c3', ?, 'removing', 0)",
        parameters: [factory.name],
      },
    ]);
    await bench.driver.stage({ id: "unknown", parents: [] });
    await bench.driver.createWritable({ id: "going", parents: [] }, {});
    const stage = await bench.driver.stage({ id: "lost", parents: [] });
    for (const folder of ["mnt/stale", "layers/gone"]) {
      mkdirSync(join(bench.execRoot, folder));
      mountAll(stage.mounts, join(bench.execRoot, folder));
    }
    writeFileSync(join(bench.root, "layers/recipes/nobody"), "");
    for (const name of ["nobody", "half", "going"]) writeFileSync(join(bench.root, "layers/open", name), "");
    await bench.reopen("crash");
    await bench.assertTidy();
    assert.deepEqual(readdirSync(join(bench.root, "layers/open")), []);
    assert.deepEqual(bench.mounts(""), []);
    assert.deepEqual(
      bench.store.list().map(({ chainId }) => chainId),
      [kept.chainId],
    );
    assert.equal((await collectBytes(bench.store.tar(kept.chainId))).equals(base), true);
    assert.equal(await bench.store.writableSize("c1"), 0);
    const again = await bench.add(kept.chainId, child, "image:b");
    assert.equal(again.existed, false);
  });
}

for (const factory of [overlay2, vfs])
  test(`${factory.name}: a layer whose data somebody deleted is told at the start, and by name to who needs it`, async () => {
    await using bench = await StoreBench.open(factory);
    const low = await bench.add(undefined, base, "image:a");
    const top = await bench.add(low.chainId, child, "image:b");
    await bench.store.createWritable("c1", top.chainId, none);
    const id = String(
      bench.database.get("SELECT coalesce(diff, id) AS id FROM layer_layers WHERE chain_id = ?", top.chainId)?.id,
    );
    await bench.driver.remove(id);
    const told: string[] = [];
    await bench.reopen("crash", (message) => told.push(message));
    assert.equal(told.length, 1);
    assert.match(told[0] ?? "", new RegExp(`^layer ${top.chainId} .* is lost: ${factory.name} has no ${id} in `));
    const lost = { code: "data_loss", message: told[0] ?? "" };
    await assert.rejects(bench.store.mountLayer(top.chainId), lost);
    await assert.rejects(collectBytes(bench.store.tar(top.chainId)), lost);
    // A driver of whole trees needs nothing below a container's own.
    if (factory === overlay2) await assert.rejects(bench.store.mountWritable("c1", "run"), lost);
    assert.equal((await collectBytes(bench.store.tar(low.chainId))).equals(base), true);
  });

test("closing gives up what was not published and leaves containers mounted", async () => {
  await using bench = await StoreBench.open(overlay2);
  const kept = await bench.add(undefined, base, "image:a");
  await bench.store.register(kept.chainId, bytes(child));
  await bench.store.createWritable("c1", kept.chainId, none);
  const path = await bench.store.mountWritable("c1", "run");
  await bench.store[Symbol.asyncDispose]();
  await bench.assertTidy();
  assert.deepEqual(bench.mounts("layers"), [path]);
});

test("a view that a kill left half mounted is taken away at the next start, a whole one is left", async () => {
  await using bench = await StoreBench.open(overlay2);
  const kept = await bench.add(undefined, base, "image:a");
  const limited = { storageOptions: { size: "4m" }, statements: [] };
  const paths: string[] = [];
  for (const id of ["half", "whole"]) {
    await bench.store.createWritable(id, kept.chainId, limited);
    paths.push(await bench.store.mountWritable(id, "run"));
    writeFileSync(join(paths.at(-1) ?? "", "file"), id);
  }
  const [half = "", whole = ""] = paths;
  assert.deepEqual(bench.mounts("layers"), [half, half, whole, whole]);
  detach(half);
  await bench.reopen("crash");
  assert.deepEqual(bench.mounts("layers"), [whole, whole]);
  await bench.assertTidy();
  const again = await bench.store.mountWritable("half", "run");
  assert.equal(readFileSync(join(again, "file"), "utf8"), "half");
  assert.equal(await bench.store.writableSize("half"), 4);
  for (const id of ["half", "whole"]) await bench.store.unmountWritable(id, "run");
  assert.deepEqual(bench.mounts("layers"), []);
});

test("layers of another driver in the same root are left alone", async () => {
  await using bench = await StoreBench.open(overlay2);
  await bench.add(undefined, base, "image:a");
  await bench.database.transact([
    {
      sql: "INSERT INTO layer_layers (id, driver, kind, state, chain_id) VALUES ('theirs', 'other', 'image', 'staging', 'x')",
    },
  ]);
  await bench.database.transact([
    { sql: "INSERT INTO layer_writables (data, id, driver, state, size) VALUES ('data', 'c', 'other', 'removing', 0)" },
  ]);
  writeFileSync(join(bench.root, "layers/recipes/theirs"), "");
  writeFileSync(join(bench.root, "layers/open/data"), "");
  await bench.reopen();
  assert.deepEqual(readdirSync(join(bench.root, "layers/open")), ["data"]);
  assert.equal(bench.database.all("SELECT id FROM layer_layers WHERE driver = 'other'").length, 1);
  assert.equal(bench.store.list().length, 1);
});
