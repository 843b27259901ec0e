/** Containers whose mounts do not sync (overlay2.volatile), and what is left of them: a stop, kills, the machine going down. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { mountTable } from "../host/mount.ts";
import type { DriverFactory } from "../storage-driver/driver.ts";
import { overlay2 } from "../storage-driver/overlay2/driver.ts";
import { scratchHome } from "../storage-driver/scratch-home.ts";
import { StoreBench, tarOf } from "./store.fixture.ts";

const image = await tarOf({ path: "file", content: "image's" });
const none = { storageOptions: {}, statements: [] };

/** overlay2 with its option; "synced" turns it off for the next start. */
function unsyncedOverlay(): { factory: DriverFactory; option: { volatile: boolean } } {
  const option = { volatile: true };
  const open: DriverFactory["open"] = (home, options, context) =>
    overlay2.open(home, { ...options, ...(option.volatile ? { "overlay2.volatile": "true" } : {}) }, context);
  return { factory: { ...overlay2, open }, option };
}

type Bench = { readonly bench: StoreBench; readonly option: { volatile: boolean }; readonly folder: string };

async function withContainer(use: (bench: Bench) => Promise<void>): Promise<void> {
  await using base = await scratchHome();
  const { factory, option } = unsyncedOverlay();
  await using bench = await StoreBench.open(factory, base.path);
  const { chainId } = await bench.add(undefined, image, "image:a");
  await bench.store.createWritable("c1", chainId, none);
  const [row] = bench.database.all("SELECT data FROM layer_writables");
  await use({ bench, option, folder: join(bench.driver.home, String(row?.data)) });
}

const mark = (folder: string): string => join(folder, "unsynced");
const kernelsMark = (folder: string): string => join(folder, "work", "work", "incompat", "volatile");

function isVolatile(path: string): boolean {
  const entry = mountTable().find(({ target }) => target === path);
  return entry?.superOptions.some((option) => option === "volatile" || option === "fsync=volatile") === true;
}

async function until(holds: () => boolean): Promise<void> {
  for (let tries = 0; !holds(); tries++) {
    assert.ok(tries < 1500, "it did not come about");
    await sleep(20);
  }
}

test("a container's mount does not sync; when it stops, all is synced and the mark goes", () =>
  withContainer(async ({ bench, folder }) => {
    assert.deepEqual((await bench.driver.status()).at(-1), ["Volatile", "true"]);
    for (let round = 0; round < 2; round++) {
      const path = await bench.store.mountWritable("c1", "run");
      assert.equal(isVolatile(path), true);
      assert.equal(readFileSync(mark(folder), "utf8"), readFileSync("/proc/sys/kernel/random/boot_id", "utf8"));
      assert.ok(existsSync(kernelsMark(folder)));
      writeFileSync(join(path, `file-${round}`), "x");
      await bench.store.unmountWritable("c1", "run");
      await until(() => !existsSync(mark(folder)));
    }
    assert.equal(await bench.store.writableSize("c1"), 2);
    assert.deepEqual(readdirSync(join(folder, "diff")), ["file-0", "file-1"]);
  }));

test("looks at a container that is stopped leave no mark", () =>
  withContainer(async ({ bench, folder }) => {
    await bench.store.writableSize("c1");
    await bench.store.changes("c1");
    assert.equal(existsSync(mark(folder)), false);
  }));

test("a mark of this boot is harmless: after a kill the container goes on, or is synced at the next start", () =>
  withContainer(async ({ bench, option, folder }) => {
    const path = await bench.store.mountWritable("c1", "run");
    writeFileSync(join(path, "kept"), "kept");
    await bench.reopen("crash");
    assert.ok(existsSync(mark(folder)), "it is mounted still");
    await bench.store.unmountWritable("c1", "run");
    // The kill comes before anything was done about the mark.
    await bench.reopen("crash");
    await until(() => !existsSync(mark(folder)));
    const again = await bench.store.mountWritable("c1", "run");
    assert.equal(readFileSync(join(again, "kept"), "utf8"), "kept");
    await bench.store.unmountWritable("c1", "run");
    await bench.reopen("closed");
    assert.equal(existsSync(mark(folder)), false, "closing does not leave it to the next start");
    option.volatile = false;
    await bench.reopen("closed");
    assert.equal(isVolatile(await bench.store.mountWritable("c1", "run")), false);
    await bench.store.unmountWritable("c1", "run");
  }));

test("without the option, what was not synced is synced before the next use", () =>
  withContainer(async ({ bench, option, folder }) => {
    await bench.store.mountWritable("c1", "run");
    await bench.store.unmountWritable("c1", "run");
    await until(() => !existsSync(mark(folder)));
    writeFileSync(mark(folder), readFileSync("/proc/sys/kernel/random/boot_id"));
    option.volatile = false;
    await bench.reopen("closed");
    writeFileSync(mark(folder), readFileSync("/proc/sys/kernel/random/boot_id"));
    const path = await bench.store.mountWritable("c1", "run");
    assert.deepEqual([isVolatile(path), existsSync(mark(folder))], [false, false]);
    await bench.store.unmountWritable("c1", "run");
  }));

test("after the machine went down its changes are not shown, but measured and removed; or taken as they are", () =>
  withContainer(async ({ bench, folder }) => {
    const path = await bench.store.mountWritable("c1", "run");
    writeFileSync(join(path, "torn"), "12345");
    await bench.store.unmountWritable("c1", "run");
    await until(() => !existsSync(mark(folder)));
    // What stands there when the power went during the use.
    writeFileSync(mark(folder), "8ac50e4c-0000-4000-8000-000000000000\n");
    await bench.reopen("closed");
    const refused = {
      code: "data_loss",
      message: /were not synced \(overlay2.volatile\).* remove the container, or delete/,
    };
    await assert.rejects(bench.store.mountWritable("c1", "run"), refused);
    await assert.rejects(bench.store.changes("c1"), refused);
    const ref = { id: basename(folder), parents: [] };
    await assert.rejects(async () => bench.driver.cloneWritable?.(ref, { ...ref, id: "copy" }, {}), refused);
    assert.equal(await bench.store.writableSize("c1"), 5);
    assert.ok(existsSync(mark(folder)), "nobody takes the mark away");
    rmSync(mark(folder));
    const taken = await bench.store.mountWritable("c1", "run");
    assert.equal(readFileSync(join(taken, "torn"), "utf8"), "12345");
    await bench.store.unmountWritable("c1", "run");
    await until(() => !existsSync(mark(folder)));
    writeFileSync(mark(folder), "another boot\n");
    await bench.store.removeWritable("c1", []);
    assert.equal(existsSync(folder), false);
  }));
