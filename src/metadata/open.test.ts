import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { type TestContext, test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { EngineError, isError } from "../base/errors.ts";
import type { Schema, Statement } from "./database.ts";
import { openDatabase } from "./open.ts";

const schema: Schema = {
  store: "test",
  steps: ["CREATE TABLE item (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT"],
};

function scratch(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), "strata-metadata-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return join(directory, "meta.db");
}

const put = (name: string, value = 0): Statement => ({
  sql: "INSERT INTO item (name, value) VALUES (?, ?)",
  parameters: [name, value],
});

test("a transaction that resolved is visible to the next read", async (t) => {
  await using database = await openDatabase(scratch(t), [schema]);
  for (let value = 0; value < 50; value++) {
    await database.transact([put(`n${value}`, value)]);
    assert.equal(database.get("SELECT value FROM item WHERE name = ?", `n${value}`)?.value, value);
  }
  assert.equal(database.all("SELECT * FROM item").length, 50);
  assert.equal(database.get("SELECT * FROM item WHERE name = 'none'"), undefined);
});

test("a transaction is all or nothing", async (t) => {
  await using database = await openDatabase(scratch(t), [schema]);
  await assert.rejects(database.transact([put("a"), { sql: "INSERT INTO nowhere VALUES (1)" }]));
  assert.deepEqual(database.all("SELECT * FROM item"), []);
});

test("in a shared commit a failing transaction is undone alone", async (t) => {
  await using database = await openDatabase(scratch(t), [schema]);
  await database.transact([put("taken")]);
  const results = await Promise.allSettled([
    database.transact([put("a")]),
    database.transact([put("b"), put("taken")]),
    database.transact([{ sql: "UPDATE item SET value = 1 WHERE name = 'absent'", changes: 1 }, put("c")]),
    database.transact([put("d"), { sql: "UPDATE item SET value = 9 WHERE name = 'a'", changes: 1 }]),
  ]);
  assert.deepEqual(
    results.map((result) => (result.status === "fulfilled" ? "ok" : isError(result.reason, "conflict"))),
    ["ok", true, true, "ok"],
  );
  assert.deepEqual(
    database.all("SELECT name, value FROM item ORDER BY name").map((row) => [row.name, row.value]),
    [
      ["a", 9],
      ["d", 0],
      ["taken", 0],
    ],
  );
});

test("a broken foreign key is a conflict and harms no neighbour", async (t) => {
  const linked: Schema = {
    store: "linked",
    steps: [
      "CREATE TABLE parent (id INTEGER PRIMARY KEY) STRICT; CREATE TABLE child (parent INTEGER NOT NULL REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED) STRICT",
    ],
  };
  await using database = await openDatabase(scratch(t), [linked]);
  const [good, bad] = await Promise.allSettled([
    database.transact([{ sql: "INSERT INTO parent VALUES (1)" }, { sql: "INSERT INTO child VALUES (1)" }]),
    database.transact([{ sql: "INSERT INTO child VALUES (7)" }]),
  ]);
  assert.equal(good.status, "fulfilled");
  assert.ok(bad.status === "rejected" && isError(bad.reason, "conflict"));
  assert.equal(database.all("SELECT * FROM child").length, 1);
});

test("values come back as they were given", async (t) => {
  const typed: Schema = { store: "typed", steps: ["CREATE TABLE v (t TEXT, i INTEGER, r REAL, b BLOB) STRICT"] };
  await using database = await openDatabase(scratch(t), [typed]);
  const bytes = new Uint8Array([0, 255, 7]);
  await database.transact([
    { sql: "INSERT INTO v VALUES (?, ?, ?, ?)", parameters: ["é\u0000x", 2 ** 52, 0.5, bytes] },
  ]);
  const row = database.get("SELECT * FROM v");
  assert.deepEqual([row?.t, row?.i, row?.r, row?.b], ["é\u0000x", 2 ** 52, 0.5, bytes]);
});

test("steps are applied once, later ones on an older file", async (t) => {
  const path = scratch(t);
  const newer: Schema = { store: "test", steps: [...schema.steps, "ALTER TABLE item ADD COLUMN note TEXT"] };
  {
    await using database = await openDatabase(path, [schema]);
    await database.transact([put("kept")]);
  }
  {
    await using database = await openDatabase(path, [newer]);
    assert.equal(database.get("SELECT note FROM item WHERE name = 'kept'")?.note, null);
  }
  await assert.rejects(openDatabase(path, [schema]), (error) => {
    assert.ok(isError(error, "conflict"));
    assert.match(error.message, /newer version \(store "test" is at step 2, this version knows 1\)/);
    return true;
  });
});

test("a step that fails leaves the file as it was", async (t) => {
  const path = scratch(t);
  const broken: Schema = { store: "test", steps: [...schema.steps, "CREATE TABLE other (x); SELECT nonsense"] };
  await assert.rejects(openDatabase(path, [broken]), /cannot bring store "test" to step 2/);
  await using database = await openDatabase(path, [schema]);
  assert.equal(database.get("SELECT 1 FROM sqlite_schema WHERE name = 'other'"), undefined);
});

test("a file of another program is refused and left alone", async (t) => {
  const path = scratch(t);
  const foreign = new DatabaseSync(path);
  foreign.exec("CREATE TABLE theirs (x)");
  foreign.close();
  await assert.rejects(openDatabase(path, [schema]), /not a metadata database of this engine/);
  writeFileSync(path, "no database at all, and long enough to be read as a header of one".repeat(100));
  await assert.rejects(openDatabase(path, [schema]), (error) => isError(error, "data_loss"));
});

test("disposing carries out what is queued; afterwards everything is refused", async (t) => {
  const path = scratch(t);
  const database = await openDatabase(path, [schema]);
  const queued = Array.from({ length: 2000 }, (_, index) => database.transact([put(`n${index}`)]));
  await database[Symbol.asyncDispose]();
  await Promise.all(queued);
  await database[Symbol.asyncDispose]();
  await assert.rejects(database.transact([put("late")]), (error) => isError(error, "unavailable"));
  assert.throws(() => database.all("SELECT 1"), EngineError);
  assert.ok(!existsSync(`${path}-wal`), "the WAL was folded in");
  await using again = await openDatabase(path, [schema]);
  assert.equal(again.get("SELECT count(*) AS count FROM item")?.count, 2000);
});

test("the WAL stays bounded while rows come and go", async (t) => {
  const path = scratch(t);
  await using database = await openDatabase(path, [schema]);
  const large = "x".repeat(100_000);
  for (let round = 0; round < 200; round++) {
    await database.transact([
      { sql: "INSERT OR REPLACE INTO item (name, value) VALUES (?, ?)", parameters: [large + (round % 3), round] },
    ]);
    database.all("SELECT value FROM item");
  }
  assert.ok(statSync(`${path}-wal`).size < 8 << 20, `WAL of ${statSync(`${path}-wal`).size} bytes`);
});

const acknowledger = (path: string): string => `
  import { writeSync } from "node:fs";
  import { openDatabase } from ${JSON.stringify(new URL("./open.ts", import.meta.url).href)};
  const database = await openDatabase(${JSON.stringify(path)}, ${JSON.stringify([schema])});
  const lane = async (name) => {
    for (let n = 0; ; n++) {
      const sql = "INSERT INTO item (name, value) VALUES (?, ?)";
      await database.transact([{ sql, parameters: [name + n, n] }], { durable: n % 3 === 0 });
      writeSync(1, name + n + "\\n");
    }
  };
  await Promise.all(["a", "b", "c", "d"].map(lane));
`;

const writerOf = (path: string, durable: string): string => `
  import { openDatabase } from ${JSON.stringify(new URL("./open.ts", import.meta.url).href)};
  const database = await openDatabase(${JSON.stringify(path)}, ${JSON.stringify([schema])});
  for (let n = 0; n < 40; n++)
    await database.transact([{ sql: "INSERT INTO item VALUES (?, 0)", parameters: ["n" + n] }], { durable: ${durable} });
  process.kill(process.pid, "SIGKILL");
`;

/** How often a process syncs a file while `writerOf` runs in it. */
function syncsOf(path: string, durable: string): number | undefined {
  const log = `${path}.strace`;
  const node = [process.execPath, "--input-type=module", "-e", writerOf(path, durable)];
  const { error } = spawnSync("strace", ["-f", "-e", "trace=fsync,fdatasync", "-o", log, ...node]);
  return error === undefined ? readFileSync(log, "utf8").match(/(fsync|fdatasync)\(/g)?.length : undefined;
}

test("a transaction that need not be durable is not synced, and its order is kept", async (t) => {
  const path = scratch(t);
  const all = syncsOf(path, "true");
  if (all === undefined) return t.skip("strace is not installed");
  const some = syncsOf(`${path}-2`, "n % 10 === 9") ?? Number.NaN;
  assert.ok(all >= 40, `${all} syncs of 40 durable transactions`);
  assert.ok(all - some >= 30, `${all} syncs of 40 durable transactions, ${some} where 4 are`);
  await using database = await openDatabase(`${path}-2`, [schema]);
  assert.equal(database.get("SELECT count(*) AS count FROM item")?.count, 40);
});

test("what was acknowledged before kill -9 is there afterwards", async (t) => {
  const path = scratch(t);
  for (const delay of [300, 500]) {
    const child = spawn(process.execPath, ["--input-type=module", "-e", acknowledger(path)]);
    let output = "";
    let problems = "";
    child.stdout.on("data", (chunk) => {
      output += chunk;
    });
    child.stderr.on("data", (chunk) => {
      problems += chunk;
    });
    const ended = new Promise((resolve) => child.once("close", resolve));
    while (output === "" && child.exitCode === null) await setTimeout(10);
    await setTimeout(delay);
    child.kill("SIGKILL");
    await ended;
    const acknowledged = output.split("\n").slice(0, -1);
    assert.ok(acknowledged.length > 10, `only ${acknowledged.length} rows: ${problems}`);
    await using database = await openDatabase(path, [schema]);
    const names = new Set(database.all("SELECT name FROM item").map((row) => row.name));
    assert.deepEqual(
      acknowledged.filter((name) => !names.has(name)),
      [],
    );
    assert.equal(database.get("PRAGMA integrity_check")?.integrity_check, "ok");
    await database.transact([{ sql: "DELETE FROM item" }]);
  }
});

test("a full disk is no_space, and the database works on once there is room", async (t) => {
  const path = scratch(t);
  const mount = join(path, "..", "small");
  mkdirSync(mount);
  const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", "size=2m", "tmpfs", mount]);
  if (mounted.status !== 0) return t.skip(`cannot mount a tmpfs: ${mounted.stderr}`);
  try {
    await using database = await openDatabase(join(mount, "meta.db"), [schema]);
    const filler = join(mount, "filler");
    await database.transact([put("before")]);
    spawnSync("dd", ["if=/dev/zero", `of=${filler}`, "bs=4k"]);
    const large = "y".repeat(300_000);
    await assert.rejects(database.transact([put(large)]), (error) => isError(error, "no_space"));
    assert.equal(database.all("SELECT * FROM item").length, 1);
    rmSync(filler);
    await database.transact([put("after")]);
    assert.equal(database.all("SELECT * FROM item").length, 2);
  } finally {
    spawnSync("umount", [mount]);
  }
});
