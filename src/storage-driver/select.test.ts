import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { createPool } from "../host/worker-pool.ts";
import type { DriverFactory } from "./driver.ts";
import { overlay2 } from "./overlay2/driver.ts";
import { openStorageDriver, selectStorageDriver } from "./select.ts";
import { vfs } from "./vfs/driver.ts";

/** A driver that cannot work here. */
const absent: DriverFactory = { ...overlay2, name: "absent", probe: async () => "the moon is in the wrong house" };

async function withRoot(use: (root: string, choose: (name?: string) => Promise<string>) => Promise<void>) {
  const root = await mkdtemp(join(tmpdir(), "select-"));
  await using pool = createPool({ size: 1 });
  const choose = async (configured?: string): Promise<string> => {
    const drivers = [absent, overlay2, { ...overlay2, name: "third" }, vfs];
    const options = { root, options: {}, context: { pool }, drivers, ...(configured ? { configured } : {}) };
    return (await selectStorageDriver(options)).name;
  };
  try {
    await use(root, choose);
  } finally {
    await rm(root, { recursive: true });
  }
}

test("without a choice the first driver that works is used, and nothing is made", () =>
  withRoot(async (root, choose) => {
    assert.equal(await choose(), "overlay2");
    assert.deepEqual(await readdir(root), []);
  }));

test("a choice wins over the order and over data", () =>
  withRoot(async (root, choose) => {
    await mkdir(join(root, "third/abc/diff"), { recursive: true });
    assert.equal(await choose("vfs"), "vfs");
  }));

test("data that stand there decide, but vfs's and empty folders do not", () =>
  withRoot(async (root, choose) => {
    await mkdir(join(root, "vfs/dir/abc"), { recursive: true });
    await mkdir(join(root, "overlay2/staging"), { recursive: true });
    await mkdir(join(root, "overlay2/trash"), { recursive: true });
    await mkdir(join(root, "third/abc/diff"), { recursive: true });
    assert.equal(await choose(), "third");
  }));

test("data of several drivers are a conflict in Docker's words", () =>
  withRoot(async (root, choose) => {
    await mkdir(join(root, "overlay2/abc/diff"), { recursive: true });
    await mkdir(join(root, "third"));
    await writeFile(join(root, "third/file"), "");
    await assert.rejects(choose(), {
      code: "conflict",
      message: `${root} contains several valid graphdrivers: overlay2, third; please cleanup or explicitly choose storage driver (-s <DRIVER>)`,
    });
  }));

test("an unknown driver is refused with the known ones, one that cannot work with its reason", () =>
  withRoot(async (root, choose) => {
    await assert.rejects(choose("zip"), {
      code: "invalid_argument",
      message: 'unknown storage driver "zip"; known are: absent, overlay2, third, vfs, aufs',
    });
    await assert.rejects(choose("absent"), { code: "unsupported", message: /moon/ });
    await mkdir(join(root, "absent/abc/diff"), { recursive: true });
    await assert.rejects(choose(), { code: "unsupported", message: /its data stand there.*moon/ });
  }));

test("the driver is opened in a folder of its name", async () => {
  const root = await mkdtemp(join(tmpdir(), "select-"));
  await using pool = createPool({ size: 1 });
  await using driver = await openStorageDriver({ root, configured: "vfs", options: {}, context: { pool } });
  assert.equal(driver.home, join(root, "vfs"));
  await rm(root, { recursive: true });
});
