import assert from "node:assert/strict";
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { isError } from "../../base/errors.ts";
import { createPool } from "../../host/worker-pool.ts";
import { runConformance } from "../conformance.ts";
import type { StorageDriver } from "../driver.ts";
import { scratchHome } from "../scratch-home.ts";
import { selectStorageDriver } from "../select.ts";
import { mostParents, unionStep } from "./branches.ts";
import { aufs } from "./driver.ts";
import { noAufs } from "./trial.ts";

const kernelHasAufs = /\taufs$/m.test(readFileSync("/proc/filesystems", "utf8"));
if (kernelHasAufs) runConformance({ name: "aufs", factory: aufs, makeHome: scratchHome });

test("branches are told the topmost first, written in moby's words", () => {
  const layers = ["/a/diff/two", "/a/diff/one"];
  assert.deepEqual(unionStep({ layers, writable: "/a/diff/top", dirperm1: true }), {
    kind: "filesystem",
    type: "aufs",
    source: "none",
    options: ["br:/a/diff/top=rw:/a/diff/two=ro+wh:/a/diff/one=ro+wh", "dio", "xino=/dev/shm/aufs.xino", "dirperm1"],
  });
  assert.deepEqual(unionStep({ layers, dirperm1: false }), {
    kind: "filesystem",
    type: "aufs",
    source: "none",
    options: ["br:/a/diff/two=ro+wh:/a/diff/one=ro+wh", "dio", "xino=/dev/shm/aufs.xino", "ro"],
  });
});

test("branches that no page holds are appended by remounts, each once and in order", () => {
  for (const length of [1, 30, 90, 400, 4000]) {
    const layers = Array.from({ length: mostParents }, (_, index) => `/${"x".repeat(length)}${index}`);
    const step = unionStep({ layers, writable: "/w", dirperm1: true });
    assert.ok(step.kind === "filesystem");
    const { options, more = [] } = step;
    for (const page of [options.filter((option) => option !== "ro"), ...more])
      assert.ok(page.join(",").length <= 4095, `${page.join(",").length}`);
    const [first = "", ...rest] = options;
    assert.deepEqual(rest, ["dio", "xino=/dev/shm/aufs.xino", "dirperm1"]);
    const told = [...first.slice("br:".length).split(":"), ...more.flat().map((one) => one.slice("append:".length))];
    assert.deepEqual(told, ["/w=rw", ...layers.map((layer) => `${layer}=ro+wh`)]);
    assert.ok(more.flat().every((one) => one.startsWith("append:")));
  }
});

test("a path that aufs would read as something else is refused", () => {
  for (const path of ["/a:b", "/a,b", "/a=b", "/a b", "/a\\b", "/a\nb"])
    for (const branches of [{ layers: [path] }, { layers: [], writable: path }])
      assert.throws(
        () => unionStep({ ...branches, dirperm1: false }),
        (error) => isError(error, "invalid_argument") && /aufs cannot be told the path/.test(error.message),
      );
});

async function withDriver(use: (driver: StorageDriver, home: string) => Promise<void>): Promise<void> {
  const home = join(await mkdtemp(join(tmpdir(), "aufs-")), "home");
  await using pool = createPool({ size: 1 });
  try {
    await using driver = await aufs.open(home, {}, { pool });
    await use(driver, home);
  } finally {
    await rm(join(home, ".."), { recursive: true });
  }
}

async function layer(driver: StorageDriver, id: string, parents: readonly string[] = []): Promise<void> {
  await driver.stage({ id, parents });
  await driver.commit({ id, parents });
}

const optionsOf = (mounts: readonly object[]): unknown => mounts.map((step) => Reflect.get(step, "options")?.[0]);

test("stages, layers and writables stand in aufs' folders and are described as unions", () =>
  withDriver(async (driver, home) => {
    const at = (id: string): string => join(home, "diff", id);
    const stage = await driver.stage({ id: "one", parents: [] });
    assert.deepEqual(stage.mounts, [{ kind: "bind", source: join(home, "staging/one"), readonly: false }]);
    assert.equal(lstatSync(join(home, "staging/one")).mode & 0o7777, 0o755);
    await driver.commit({ id: "one", parents: [] });
    const two = { id: "two", parents: ["one"] };
    assert.deepEqual(optionsOf((await driver.stage(two)).mounts), [
      `br:${join(home, "staging/two")}=rw:${at("one")}=ro+wh`,
    ]);
    await driver.commit(two);
    const top = { id: "top", parents: ["two", "one"] };
    await driver.createWritable(top, {});
    const below = `${at("two")}=ro+wh:${at("one")}=ro+wh`;
    assert.deepEqual(optionsOf(await driver.mounts(top, "writable")), [`br:${at("top")}=rw:${below}`]);
    assert.deepEqual(optionsOf(await driver.mounts(two, "layer")), [`br:${below}`]);
    const [view] = await driver.mounts(two, "layer");
    assert.ok(view?.kind === "filesystem" && view.options.includes("ro"));
    const lowest = await driver.mounts({ id: "one", parents: [] }, "layer");
    assert.deepEqual(lowest, [{ kind: "bind", source: at("one"), readonly: true }]);
    assert.deepEqual(
      ["one", "two", "top"].map((id) => readFileSync(join(home, "layers", id), "utf8")),
      ["", "one\n", "two\none\n"],
    );
    assert.deepEqual([...(await driver.list())].sort(), ["one", "top", "two"]);
    assert.deepEqual(
      (await driver.status()).map(([key, value]) => (key === "Backing Filesystem" ? [key] : [key, value])),
      [["Root Dir", home], ["Backing Filesystem"], ["Dirs", "3"], ["Dirperm1 Supported", String(kernelHasAufs)]],
    );
  }));

test("a layer goes with its list of parents; lists that nothing belongs to go at the next start", () =>
  withDriver(async (driver, home) => {
    await layer(driver, "one");
    await layer(driver, "two", ["one"]);
    await driver.stage({ id: "left", parents: ["one"] });
    await driver.remove("two");
    assert.deepEqual(readdirSync(join(home, "layers")).sort(), ["left", "one"]);
    assert.equal(await driver.sweep(), 1);
    rmSync(join(home, "diff/one"), { recursive: true });
    await using pool = createPool({ size: 1 });
    await using again = await aufs.open(home, {}, { pool });
    assert.deepEqual(await again.list(), ["left"]);
    assert.deepEqual(readdirSync(join(home, "layers")), ["left"]);
  }));

test("the root's owner and mode pass on to children, and a writable that a power cut took is made again", () =>
  withDriver(async (driver, home) => {
    mkdirSync(join(home, "diff/one"), { mode: 0o711 });
    const top = { id: "top", parents: ["one"] };
    await driver.createWritable(top, {});
    assert.equal(lstatSync(join(home, "diff/top")).mode & 0o7777, 0o711);
    rmSync(join(home, "diff/top"), { recursive: true });
    await driver.mounts(top, "writable");
    assert.equal(lstatSync(join(home, "diff/top")).mode & 0o7777, 0o711);
  }));

test("what fails leaves nothing, an id twice leaves the first", () =>
  withDriver(async (driver, home) => {
    await assert.rejects(driver.stage({ id: "orphan", parents: ["absent"] }), { code: "ENOENT" });
    assert.deepEqual([await driver.list(), readdirSync(join(home, "layers"))], [[], []]);
    await driver.stage({ id: "one", parents: [] });
    writeFileSync(join(home, "staging/one/file"), "");
    await assert.rejects(driver.stage({ id: "one", parents: [] }), { code: "EEXIST" });
    assert.ok(existsSync(join(home, "staging/one/file")));
    for (const id of ["", "..", "a/b", "staging", "trash"])
      await assert.rejects(driver.stage({ id, parents: [] }), { code: "invalid_argument" });
    await assert.rejects(driver.createWritable({ id: "x", parents: [] }, { size: "1g" }), {
      message: "--storage-opt is not supported for aufs",
    });
  }));

test("an option of the daemon is refused before anything is made", async () => {
  await using pool = createPool({ size: 1 });
  await using scratch = await scratchHome();
  const home = join(scratch.path, "home");
  await assert.rejects(aufs.open(home, { "aufs.x": "1" }, { pool }), { message: /aufs: unknown option aufs.x/ });
  assert.equal(existsSync(home), false);
});

test("the probe names overlay2 where the kernel has no aufs, and leaves nothing", { skip: kernelHasAufs }, async () => {
  await using scratch = await scratchHome();
  assert.equal(await aufs.probe(join(scratch.path, "deep/home")), noAufs);
  assert.match(noAufs, /use overlay2/);
  assert.match((await aufs.probe(join(scratch.path, "a:b"))) ?? "", /aufs cannot be told the path/);
  assert.deepEqual(readdirSync(scratch.path), []);
});

test("aufs is found by its name only: neither a choice nor its data take it", async () => {
  await using pool = createPool({ size: 1 });
  await using scratch = await scratchHome();
  const root = scratch.path;
  const options = { root, options: {}, context: { pool } };
  const everything = await selectStorageDriver(options);
  assert.notEqual(everything.name, "aufs");
  if (!kernelHasAufs)
    await assert.rejects(selectStorageDriver({ ...options, configured: "aufs" }), {
      code: "unsupported",
      message: `storage driver aufs (it was chosen) cannot be used: ${noAufs}`,
    });
  mkdirSync(join(root, "aufs/diff/abc"), { recursive: true });
  await assert.rejects(selectStorageDriver(options), {
    code: "unsupported",
    message: /holds data of the storage driver aufs, which is used only when it is asked for/,
  });
  assert.notEqual((await selectStorageDriver({ ...options, configured: "vfs" })).name, "aufs");
});

test("the driver's page names the reader for data that Docker left", async () => {
  const page = await readFile(new URL("../../../docs/drivers/aufs.md", import.meta.url), "utf8");
  for (const name of ["readAufsLayers", "writeAufsLayer", "aufsLayerTarTask", "overlay2"])
    assert.ok(page.includes(name), name);
});
