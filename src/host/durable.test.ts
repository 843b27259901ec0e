import assert from "node:assert/strict";
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { syncDirectory, syncFilesystem, writeFileDurably } from "./durable.ts";
import { nativeAsync } from "./libc.ts";

let directory = "";
before(() => {
  directory = mkdtempSync(join(tmpdir(), "strata-durable-"));
});
after(() => rmSync(directory, { recursive: true }));

test("a file is made, then replaced, with exactly its mode, and leaves no other file", async () => {
  const path = join(directory, "config.json");
  const umask = process.umask(0o077);
  try {
    await writeFileDurably(path, "one", 0o644);
    assert.equal(statSync(path).mode & 0o7777, 0o644);
    await writeFileDurably(path, Buffer.from("two"));
  } finally {
    process.umask(umask);
  }
  assert.equal(readFileSync(path, "utf8"), "two");
  assert.equal(statSync(path).mode & 0o7777, 0o600);
  assert.deepEqual(readdirSync(directory), ["config.json"]);
});

test("a failed write leaves the old content and nothing else", async () => {
  const path = join(directory, "taken");
  mkdirSync(path);
  writeFileSync(join(path, "inside"), "");
  await assert.rejects(writeFileDurably(path, "data"), { code: "EISDIR" });
  await assert.rejects(writeFileDurably(join(directory, "absent/file"), "data"), { code: "ENOENT" });
  assert.deepEqual(
    readdirSync(directory).filter((name) => name.endsWith(".tmp")),
    [],
  );
});

test("filesystems and directories are synced, and a path that is not there is said", async () => {
  await syncFilesystem(directory);
  await syncDirectory(directory);
  await assert.rejects(syncFilesystem(join(directory, "absent")), { code: "ENOENT" });
  await assert.rejects(syncDirectory(join(directory, "absent")), { code: "ENOENT" });
});

test("a call on an I/O thread reports its own errno, not that of another call meanwhile", async () => {
  const syncfs = nativeAsync("int syncfs(int)");
  const calls = Promise.all(Array.from({ length: 20 }, () => syncfs(-1)));
  for (let index = 0; index < 1000; index++)
    assert.throws(() => chmodSync(join(directory, "absent"), 0), { code: "ENOENT" });
  for (const { result, errno } of await calls) assert.deepEqual([result, errno], [-1, 9]);
});
