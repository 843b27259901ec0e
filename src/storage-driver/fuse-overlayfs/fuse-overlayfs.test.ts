import assert from "node:assert/strict";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { mountAllAsync, mountTable, unmountAll } from "../../host/mount.ts";
import { AT_FDCWD, setXattr } from "../../host/sys.ts";
import { createPool } from "../../host/worker-pool.ts";
import type { StorageDriver } from "../driver.ts";
import { fuseOverlayfs } from "./driver.ts";

type Bench = { readonly driver: StorageDriver; readonly home: string; readonly target: string };

async function withDriver(use: (bench: Bench) => Promise<void>, folder = "home"): Promise<void> {
  const scratch = await mkdtemp(join(tmpdir(), "fuse-overlayfs-"));
  await using pool = createPool({ size: 1 });
  const target = join(scratch, "merged");
  mkdirSync(target);
  try {
    const home = join(scratch, folder);
    await use({ driver: await fuseOverlayfs.open(home, {}, { pool }), home, target });
  } finally {
    unmountAll(target);
    await rm(scratch, { recursive: true });
  }
}

/** Numbers of the processes that were started to serve `target`. */
function servers(target: string): string[] {
  const isServer = (pid: string): boolean => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").includes(target);
    } catch {
      return false;
    }
  };
  return readdirSync("/proc").filter((name) => /^\d+$/.test(name) && isServer(name));
}

test("a mount is served by a process in a session of its own, which ends with the mount", () =>
  withDriver(async ({ driver, home, target }) => {
    const top = { id: "top", parents: [] };
    await driver.createWritable(top, {});
    await mountAllAsync(await driver.mounts(top, "writable"), target);
    const [pid, ...others] = servers(target);
    assert.deepEqual(others, []);
    assert.equal(readFileSync(`/proc/${pid}/stat`, "utf8").split(" ")[5], pid, "it leads its session");
    const entry = mountTable().find((mount) => mount.target === target);
    assert.equal(entry?.type, "fuse.fuse-overlayfs");
    assert.equal(entry?.propagation, "private");
    assert.equal(entry?.options.includes("nodev"), false);
    writeFileSync(join(target, "file"), "x");
    unmountAll(target);
    assert.equal(readFileSync(join(home, "top/diff/file"), "utf8"), "x");
    for (let tries = 0; servers(target).length > 0; tries++) {
      assert.ok(tries < 100, "the process stays");
      await setTimeout(20);
    }
  }));

test("a home may hold what the program takes for separators", () =>
  withDriver(async ({ driver, target }) => {
    await driver.stage({ id: "one", parents: [] });
    await driver.commit({ id: "one", parents: [] });
    const top = { id: "top", parents: ["one"] };
    await driver.createWritable(top, {});
    await mountAllAsync(await driver.mounts(top, "writable"), target);
    writeFileSync(join(target, "file"), "x");
  }, "b,c\\d e"));

test("a colon in the home's path is too much for the program, and the probe says so", async () => {
  assert.match((await fuseOverlayfs.probe(join(tmpdir(), "a:b"))) ?? "", /has a colon in its name/);
});

test("the program's own marks, as attributes and as names, are not for a container to make", () =>
  withDriver(async ({ driver, target }) => {
    const top = { id: "top", parents: [] };
    await driver.createWritable(top, {});
    await mountAllAsync(await driver.mounts(top, "writable"), target);
    mkdirSync(join(target, "folder"));
    for (const attribute of ["trusted.overlay.opaque", "user.fuseoverlayfs.opaque"])
      assert.throws(() => setXattr(AT_FDCWD, join(target, "folder"), attribute, Buffer.from("y")), { code: "EPERM" });
    assert.throws(() => writeFileSync(join(target, ".wh.folder"), ""), { code: "EINVAL" });
  }));

test("without the program the probe says what to install", async () => {
  const path = process.env.PATH;
  process.env.PATH = "/nowhere";
  try {
    assert.match(
      (await fuseOverlayfs.probe(join(tmpdir(), "never-made"))) ?? "",
      /cannot run fuse-overlayfs: install it/,
    );
  } finally {
    process.env.PATH = path;
  }
});

test("describe speaks Docker's words, and Docker's fuse-overlayfs has no status rows", () =>
  withDriver(async ({ driver, home }) => {
    assert.deepEqual(driver.describe({ id: "top", parents: ["two", "one"] }, "writable"), {
      LowerDir: `${home}/two/diff:${home}/one/diff`,
      MergedDir: `${home}/top/merged`,
      UpperDir: `${home}/top/diff`,
      WorkDir: `${home}/top/work`,
    });
    assert.deepEqual(await driver.status(), []);
    await assert.rejects(driver.createWritable({ id: "x", parents: [] }, { size: "1g" }), {
      message: "--storage-opt is not supported for fuse-overlayfs",
    });
  }));
