/** The daemon over the example, with the docker CLI: images, containers, a restart, and starts that must fail. */
import assert from "node:assert/strict";
import { cpSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { busyboxTar, command, scratchFolder, startStrata } from "../../test/support/engine.ts";

const project = new URL("../..", import.meta.url).pathname;
const copies = join(project, "examples/storage-driver/copies.mjs");

test("an engine runs on a driver from outside, and says what it needs without it", async () => {
  using scratch = scratchFolder();
  const [root, dataRoot] = [join(scratch.path, "run"), join(scratch.path, "data")];
  {
    await using daemon = await startStrata({ root, dataRoot, driver: copies });
    assert.equal(await daemon.ok(["info", "-f", "{{.Driver}}"]), "copies");
    await daemon.ok(["import", await busyboxTar(join(scratch.path, "busybox.tar")), "busybox"]);
    await daemon.ok(["run", "--name", "one", "busybox", "sh", "-c", "echo kept >/file && rm /etc/group"]);
    assert.deepEqual((await daemon.ok(["diff", "one"])).split("\n").sort(), ["A /file", "C /etc", "D /etc/group"]);
    await daemon.ok(["commit", "one", "two"]);
    assert.equal(await daemon.ok(["run", "--rm", "two", "cat", "/file"]), "kept");
  }
  const strata = (...args: readonly string[]): ReturnType<typeof command> => command(join(project, "bin/strata"), args);
  const roots = ["--data-root", dataRoot, "--exec-root", join(root, "exec")];
  const config = join(scratch.path, "daemon.json");
  writeFileSync(config, "{}");
  const without = await strata("daemon", "--config-file", config, ...roots);
  assert.equal(without.code, 1);
  assert.match(without.stderr, /holds data of another driver: the storage driver "copies" .*\/copies\.mjs when it was/);
  const unchecked = await strata("check", ...roots);
  assert.equal(unchecked.code, 2);
  assert.match(unchecked.stderr, /the storage driver "copies" is not part of Strata/);
  const checked = await strata("check", ...roots, "-s", copies);
  assert.equal(checked.code, 0, checked.stdout + checked.stderr);
  // The module moved; daemon.json names it by a path from where the file stands.
  mkdirSync(join(scratch.path, "drivers"));
  cpSync(copies, join(scratch.path, "drivers/moved.mjs"));
  writeFileSync(config, JSON.stringify({ "storage-driver": "./drivers/moved.mjs" }));
  {
    await using daemon = await startStrata({ root, dataRoot, args: ["--config-file", config] });
    assert.equal(await daemon.ok(["run", "--rm", "two", "cat", "/file"]), "kept");
  }
  const left = await strata("migrate", "--data-root", dataRoot, "--to", "vfs", "--from", copies, "--remove-old");
  assert.equal(left.code, 0, left.stdout + left.stderr);
  assert.deepEqual(readdirSync(join(dataRoot, "copies/kept")), []);
  await using daemon = await startStrata({ root, dataRoot });
  assert.equal(await daemon.ok(["info", "-f", "{{.Driver}}"]), "vfs");
  assert.deepEqual((await daemon.ok(["diff", "one"])).split("\n").sort(), ["A /file", "C /etc", "D /etc/group"]);
  assert.equal(await daemon.ok(["run", "--rm", "two", "cat", "/file"]), "kept");
  await daemon.ok(["rm", "one"]);
  await daemon.ok(["rmi", "two", "busybox"]);
});
