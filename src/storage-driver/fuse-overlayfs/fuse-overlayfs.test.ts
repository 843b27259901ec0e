import assert from "node:assert/strict";
import { mkdirSync, readdirSync, readFileSync, statfsSync, writeFileSync } from "node:fs";
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
  }));

test("a limited writable is served over its own filesystem, also on a target whose name needs quotes", () =>
  withDriver(async ({ driver, home, target }) => {
    const top = { id: "top", parents: [] };
    await driver.createWritable(top, { size: "8m" });
    assert.deepEqual(readdirSync(join(home, "top")), ["image"]);
    const odd = join(target, "a,b\\c d");
    mkdirSync(odd);
    await mountAllAsync(await driver.mounts(top, "writable"), odd);
    try {
      const types = mountTable().flatMap((mount) => (mount.target === odd ? [mount.type] : []));
      assert.deepEqual(types, ["ext4", "fuse.fuse-overlayfs"]);
      writeFileSync(join(odd, "file"), "kept");
      const { blocks, bsize } = statfsSync(odd);
      assert.ok(Math.abs(blocks * bsize - (8 << 20)) < 65536, `${blocks * bsize}`);
    } finally {
      unmountAll(odd);
    }
    await mountAllAsync(await driver.mounts(top, "writable"), target);
    assert.equal(readFileSync(join(target, "file"), "utf8"), "kept");
  }));

test("options: a standard size is taken, the unknown is refused by name", async () => {
  const scratch = await mkdtemp(join(tmpdir(), "fuse-overlayfs-"));
  await using pool = createPool({ size: 1 });
  try {
    const home = join(scratch, "home");
    const driver = await fuseOverlayfs.open(home, { "fuse-overlayfs.size": "8m" }, { pool });
    await driver.createWritable({ id: "top", parents: [] }, {});
    assert.deepEqual(readdirSync(join(home, "top")), ["image"]);
    await assert.rejects(fuseOverlayfs.open(home, { "fuse-overlayfs.speed": "9" }, { pool }), {
      message: "fuse-overlayfs: unknown option fuse-overlayfs.speed; known is fuse-overlayfs.size",
    });
  } finally {
    await rm(scratch, { recursive: true });
  }
});
