import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, chownSync, lstatSync, mkdirSync, readdirSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { mountAll, mountTable, unmountAll } from "../../host/mount.ts";
import { AT_FDCWD, getXattr, setXattr } from "../../host/sys.ts";
import { createPool } from "../../host/worker-pool.ts";
import type { StorageDriver } from "../driver.ts";
import { limitRules, writableSize } from "../limiter.ts";
import { overlay2 } from "./driver.ts";
import { sizeRefusal } from "./options.ts";

type Bench = { readonly driver: StorageDriver; readonly home: string; readonly target: string };

async function withDriver(use: (bench: Bench) => Promise<void>, options = {}): Promise<void> {
  const scratch = await mkdtemp(join(tmpdir(), "overlay2-"));
  await using pool = createPool({ size: 1 });
  const target = join(scratch, "merged");
  mkdirSync(target);
  try {
    const home = join(scratch, "home");
    await use({ driver: await overlay2.open(home, options, { pool }), home, target });
  } finally {
    unmountAll(target);
    await rm(scratch, { recursive: true });
  }
}

async function makeLayer({ driver }: Bench, id: string, parents: readonly string[]): Promise<void> {
  await driver.stage({ id, parents });
  await driver.commit({ id, parents });
}

/** Kernels print the option in two ways. */
const isVolatile = (option: string): boolean => option === "volatile" || option === "fsync=volatile";

const modeOf = (path: string): string => (lstatSync(path).mode & 0o7777).toString(8);

test("the folders are closed to the host's users, the tree is not", () =>
  withDriver(async (bench) => {
    const { driver, home } = bench;
    await makeLayer(bench, "one", []);
    await driver.createWritable({ id: "top", parents: ["one"] }, {});
    const modes = ["", "one", "one/diff", "top", "top/diff", "top/work"].map((name) => modeOf(join(home, name)));
    assert.deepEqual(modes, ["710", "710", "755", "710", "755", "700"]);
    assert.deepEqual(readdirSync(join(home, "one")), ["diff"]);
  }));

test("the kernel is told to keep diffs plain: no redirects, no metadata copies, no index", () =>
  withDriver(async (bench) => {
    const { driver, target } = bench;
    await makeLayer(bench, "one", []);
    await driver.createWritable({ id: "top", parents: ["one"] }, {});
    mountAll(await driver.mounts({ id: "top", parents: ["one"] }, "writable"), target);
    const entry = mountTable().find((mount) => mount.target === target);
    assert.equal(entry?.type, "overlay");
    // The kernel leaves out of mountinfo what is its default; a rename shows what redirect_dir does.
    for (const bad of ["index=on", "metacopy=on", "redirect_dir=on", "redirect_dir=follow"])
      assert.equal(entry?.superOptions.includes(bad), false, bad);
    assert.equal(entry?.superOptions.some(isVolatile), false);
  }));

test("a stage is mounted without syncing, a writable is not", () =>
  withDriver(async (bench) => {
    const { driver, home, target } = bench;
    await makeLayer(bench, "one", []);
    const layer = { id: "two", parents: ["one"] };
    mountAll((await driver.stage(layer)).mounts, target);
    assert.equal(
      mountTable()
        .find((mount) => mount.target === target)
        ?.superOptions.some(isVolatile),
      true,
    );
    writeFileSync(join(target, "file"), "x");
    unmountAll(target);
    await driver.commit(layer);
    assert.deepEqual(readdirSync(join(home, "two")), ["diff"]);
  }));

test("a writable that a power cut took is made again by mounts", () =>
  withDriver(async (bench) => {
    const { driver, home, target } = bench;
    await makeLayer(bench, "one", []);
    const layer = { id: "top", parents: ["one"] };
    await driver.createWritable(layer, {});
    rmSync(join(home, "top"), { recursive: true });
    mountAll(await driver.mounts(layer, "writable"), target);
    writeFileSync(join(target, "file"), "x");
    assert.deepEqual(readdirSync(join(home, "top/diff")), ["file"]);
  }));

test("an image's own overlay xattrs are seen by it and do nothing to the mount", () =>
  withDriver(async (bench) => {
    const { driver, target } = bench;
    const stage = await driver.stage({ id: "one", parents: [] });
    assert.deepEqual(stage.escapeXattrs, { from: "trusted.overlay.", to: "trusted.overlay.overlay." });
    mountAll(stage.mounts, target);
    mkdirSync(join(target, "folder"));
    setXattr(AT_FDCWD, join(target, "folder"), "trusted.overlay.overlay.opaque", Buffer.from("y"));
    unmountAll(target);
    await driver.commit({ id: "one", parents: [] });
    await driver.createWritable({ id: "top", parents: ["one"] }, {});
    for (const [ref, kind] of [
      [{ id: "one", parents: [] }, "layer"],
      [{ id: "top", parents: ["one"] }, "writable"],
    ] as const) {
      mountAll(await driver.mounts(ref, kind), target);
      assert.equal(getXattr(AT_FDCWD, join(target, "folder"), "trusted.overlay.opaque")?.toString(), "y", kind);
      unmountAll(target);
    }
  }));

test("describe and status speak Docker's words in Docker's order", () =>
  withDriver(async (bench) => {
    const { driver, home } = bench;
    assert.deepEqual(driver.describe({ id: "top", parents: ["two", "one"] }, "writable"), {
      LowerDir: `${home}/two/diff:${home}/one/diff`,
      MergedDir: `${home}/top/merged`,
      UpperDir: `${home}/top/diff`,
      WorkDir: `${home}/top/work`,
    });
    const type = execFileSync("stat", ["-f", "-c", "%T", home], { encoding: "utf8" }).trim();
    assert.deepEqual(await driver.status(), [
      ["Backing Filesystem", type === "ext2/ext3" ? "extfs" : type],
      ["Supports d_type", "true"],
      ["Using metacopy", "false"],
      ["Native Overlay Diff", "true"],
      ["userxattr", "false"],
    ]);
  }));

test("override_kernel_check is taken, what is no size and the unknown are refused by name", async () => {
  await withDriver(async () => undefined, { "overlay2.override_kernel_check": "true" });
  for (const [key, value, message] of [
    ["overlay2.size", "much", "invalid size: 'much'"],
    ["overlay2.size", "0", "overlay2: invalid storage size: 0B"],
    ["overlay2.volatile", "perhaps", 'overlay2: overlay2.volatile must be true or false, not "perhaps"'],
    ["overlay2.speed", "9", "overlay2: unknown option overlay2.speed"],
  ] as const)
    await assert.rejects(
      withDriver(async () => undefined, { [key]: value }),
      { code: "invalid_argument", message },
    );
});

test("where nothing can limit a size, it is refused in Docker's words", () => {
  const limiter = { kind: "none", reason: "no quotas, no loop devices" } as const;
  const refusal = { limiter, words: sizeRefusal };
  const rules = { driver: "overlay2" };
  assert.equal(writableSize({}, rules, refusal), undefined);
  assert.throws(() => writableSize({ size: "1g" }, rules, refusal), {
    code: "invalid_argument",
    message: /^--storage-opt is supported only for overlay over xfs with 'pquota' mount option \(no quotas, no/,
  });
  assert.throws(() => limitRules({ ...rules, standard: 1 << 30 }, limiter), {
    code: "unsupported",
    message: "Storage option overlay2.size not supported: no quotas, no loop devices",
  });
});

test("a limited writable has the root of its parent, and is durable with its folder", () =>
  withDriver(async (bench) => {
    const { driver, home, target } = bench;
    const { mounts } = await driver.stage({ id: "one", parents: [] });
    mountAll(mounts, target);
    chownSync(target, 5, 6);
    chmodSync(target, 0o2751);
    setXattr(AT_FDCWD, target, "user.note", Buffer.from("kept"));
    utimesSync(target, 1000, 1234.5);
    unmountAll(target);
    await driver.commit({ id: "one", parents: [] });
    const layer = { id: "top", parents: ["one"] };
    await driver.createWritable(layer, { size: "4m" });
    assert.deepEqual(readdirSync(join(home, "top")), ["image"]);
    mountAll(await driver.mounts(layer, "writable"), target);
    const { uid, gid, mode, mtimeMs } = lstatSync(target);
    assert.deepEqual([uid, gid, mode & 0o7777, mtimeMs], [5, 6, 0o2751, 1_234_500]);
    assert.equal(getXattr(AT_FDCWD, target, "user.note")?.toString(), "kept");
    assert.equal("UpperDir" in driver.describe(layer, "writable"), false);
    assert.equal(driver.describe(layer, "writable").UpperImage, join(home, "top/image"));
  }));

test("a limited writable that cannot be made leaves nothing", () =>
  withDriver(async ({ driver, home }) => {
    await assert.rejects(driver.createWritable({ id: "top", parents: [] }, { size: "9000t" }), {
      code: "invalid_argument",
      message: /^a size of .* is more than the filesystem of the data root can hold in one file$/,
    });
    assert.deepEqual(await driver.list(), []);
    assert.deepEqual(readdirSync(join(home, "staging")), []);
  }));

test("a home on overlayfs is no place for it, and the probe says so and leaves nothing", () =>
  withDriver(async (bench) => {
    const { driver, target } = bench;
    await makeLayer(bench, "one", []);
    await driver.createWritable({ id: "top", parents: ["one"] }, {});
    mountAll(await driver.mounts({ id: "top", parents: ["one"] }, "writable"), target);
    const reason = await overlay2.probe(join(target, "overlay2"));
    assert.match(reason ?? "", /^overlayfs cannot be mounted over .* \(overlayfs\): /);
    assert.deepEqual(readdirSync(target), []);
  }));
