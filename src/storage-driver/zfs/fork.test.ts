/** Forks of writables: what they take, and that whoever goes first, the last one gives all room back. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { mountAll, unmountAll } from "../../host/mount.ts";
import { createPool } from "../../host/worker-pool.ts";
import type { StorageDriver } from "../driver.ts";
import { zfs } from "./driver.ts";
import { cannotMakePool, type ZfsHome, zfsHome } from "./zfs-pool.fixture.ts";

const skip = cannotMakePool();
const mebibyte = 1 << 20;
const data = 8 * mebibyte;
const parents = ["base"];
const source = { id: "source", parents };

type Bench = AsyncDisposable & {
  readonly made: ZfsHome;
  readonly home: string;
  readonly driver: StorageDriver;
  /** Bytes that the driver's datasets take beyond those of the layer. */
  readonly taken: () => number;
  readonly datasets: () => string[];
};

async function open(): Promise<Bench> {
  await using stack = new AsyncDisposableStack();
  const made = stack.use(await zfsHome());
  const pool = stack.use(createPool({ size: 1 }));
  const home = join(made.path, "home");
  const driver = await zfs.open(home, {}, { pool });
  await driver.stage({ id: "base", parents: [] });
  await driver.commit({ id: "base", parents: [] });
  const zfsCommand = (...args: string[]): string => execFileSync("zfs", args, { encoding: "utf8" }).trim();
  const used = (): number => Number(zfsCommand("get", "-Hp", "-o", "value", "used", made.dataset));
  const atFirst = used();
  const datasets = (): string[] =>
    zfsCommand("list", "-H", "-o", "name", "-t", "filesystem,snapshot", "-r", made.dataset)
      .split("\n")
      .map((name) => name.slice(made.dataset.length + 1).replace(/@fork-.*/, "@fork"))
      .filter((name) => name !== "")
      .toSorted();
  const kept = stack.move();
  const taken = (): number => used() - atFirst;
  return { made, home, driver, taken, datasets, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}

async function inTree<T>({ driver }: Bench, id: string, use: (file: string) => T): Promise<T> {
  const target = mkdtempSync(join(tmpdir(), "view-"));
  try {
    mountAll(await driver.mounts({ id, parents }, "writable"), target);
    try {
      return use(join(target, "file"));
    } finally {
      unmountAll(target);
    }
  } finally {
    rmdirSync(target);
  }
}

const write = (bench: Bench, id: string, content: Buffer): Promise<void> =>
  inTree(bench, id, (file) => writeFileSync(file, content, { flush: true }));

const holds = (bench: Bench, id: string, content: Buffer): Promise<boolean> =>
  inTree(bench, id, (file) => readFileSync(file).equals(content));

async function filledSource(bench: Bench): Promise<Buffer> {
  await bench.driver.createWritable(source, {});
  const content = randomBytes(data);
  await write(bench, "source", content);
  return content;
}

async function fork({ driver }: Bench, from: string, id: string): Promise<void> {
  assert.equal(await driver.cloneWritable?.({ id: from, parents }, { id, parents }, {}), true);
}

test("a fork takes no room, and its source leaves it what they share", { skip }, async () => {
  await using bench = await open();
  const { driver } = bench;
  const content = await filledSource(bench);
  await fork(bench, "source", "one");
  await fork(bench, "source", "two");
  await fork(bench, "two", "three");
  assert.ok(bench.taken() < data + mebibyte, `${bench.taken()} bytes`);
  await driver.remove("source");
  assert.equal(await driver.sweep(), 1, "it is destroyed though forks of it live");
  await driver.remove("two");
  assert.equal(await driver.sweep(), 1, "and so is a fork that was forked");
  for (const id of ["one", "three"]) assert.ok(await holds(bench, id, content), id);
  await driver.remove("three");
  assert.equal(await driver.sweep(), 1);
  assert.ok(await holds(bench, "one", content));
  assert.deepEqual(bench.datasets(), ["base", "base@layer", "one"], "no snapshot is left");
  await driver.remove("one");
  assert.equal(await driver.sweep(), 1);
  assert.ok(bench.taken() < mebibyte, `${bench.taken()} bytes are left`);
});

test("a fork that goes first leaves nothing that its source would have to keep", { skip }, async () => {
  await using bench = await open();
  const { driver } = bench;
  await filledSource(bench);
  await fork(bench, "source", "one");
  await driver.remove("one");
  assert.equal(await driver.sweep(), 1);
  assert.deepEqual(bench.datasets(), ["base", "base@layer", "source"]);
  await write(bench, "source", Buffer.from("little"));
  // ZFS counts what it has written out, and a command of it does that.
  execFileSync("zfs", ["set", "strata:test=1", `${bench.made.dataset}/source`]);
  assert.ok(bench.taken() < mebibyte, `${bench.taken()} bytes are left`);
});

test("source and fork removed at once go at once", { skip }, async () => {
  await using bench = await open();
  await filledSource(bench);
  await fork(bench, "source", "one");
  await bench.driver.remove("source");
  await bench.driver.remove("one");
  assert.equal(await bench.driver.sweep(), 2);
  assert.deepEqual(bench.datasets(), ["base", "base@layer"]);
});

test("a limit is kept by a copy: neither its source nor a fork that has one is cloned", { skip }, async () => {
  await using bench = await open();
  const { driver } = bench;
  await driver.createWritable(source, { size: "32m" });
  const limited = { id: "limited", parents };
  assert.equal(await driver.cloneWritable?.(source, limited, {}), false);
  await driver.createWritable({ id: "free", parents }, {});
  assert.equal(await driver.cloneWritable?.({ id: "free", parents }, limited, { size: "32m" }), false);
  assert.deepEqual(bench.datasets(), ["base", "base@layer", "free", "source"]);
});

test("what a killed engine left of a fork goes with the next one's first sweep", { skip }, async () => {
  await using bench = await open();
  const { made, home, driver } = bench;
  await filledSource(bench);
  await fork(bench, "source", "one");
  for (const label of ["fork-cut", "mine"]) execFileSync("zfs", ["snapshot", `${made.dataset}/source@${label}`]);
  mkdirSync(join(home, "graph/gone"));
  await using pool = createPool({ size: 1 });
  const next = await zfs.open(home, {}, { pool });
  assert.equal(await next.sweep(), 0);
  assert.deepEqual(bench.datasets(), ["base", "base@layer", "one", "source", "source@fork", "source@mine"]);
  assert.deepEqual(readdirSync(join(home, "graph")).toSorted(), ["base", "one", "source"]);
  await driver.remove("one");
  assert.equal(await driver.sweep(), 1);
  assert.deepEqual(bench.datasets(), ["base", "base@layer", "source", "source@mine"]);
});
