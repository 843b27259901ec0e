import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { removesGroups } from "../../host/btrfs-quota.ts";
import { createPool } from "../../host/worker-pool.ts";
import type { StorageDriver } from "../driver.ts";
import { loopHome } from "../scratch-home.ts";
import { btrfs } from "./driver.ts";

type Opened = AsyncDisposable & { readonly driver: StorageDriver; readonly path: string };

async function opened(options: Readonly<Record<string, string>>): Promise<Opened> {
  await using stack = new AsyncDisposableStack();
  const loop = stack.use(await loopHome("btrfs"));
  const pool = stack.use(createPool({ size: 1 }));
  const driver = stack.use(await btrfs.open(join(loop.path, "btrfs"), options, { pool }));
  const kept = stack.move();
  return { driver, path: loop.path, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}

/** Quota group -> its limit, as btrfs-progs tells them; undefined where quotas are off. */
function groups(path: string): Map<string, string> | undefined {
  try {
    const table = execFileSync("btrfs", ["qgroup", "show", "-r", "--raw", "--sync", path], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    });
    const rows = table.split("\n").flatMap((line) => {
      const [group, , , limit] = line.trim().split(/\s+/);
      return group?.startsWith("0/") === true ? [[group, limit ?? ""] as const] : [];
    });
    return new Map(rows);
  } catch {
    return undefined;
  }
}

const limits = (path: string): string[] => [...(groups(path)?.values() ?? [])].filter((limit) => limit !== "none");

test("quotas are off until someone needs them, and stay on after", async () => {
  await using bench = await opened({});
  const { driver, path } = bench;
  await driver.createWritable({ id: "free", parents: [] }, {});
  assert.equal(groups(path), undefined);
  await driver.createWritable({ id: "limited", parents: [] }, { size: "20m" });
  assert.deepEqual(limits(path), [`${20 << 20}`]);
  const before = groups(path)?.size ?? 0;
  await driver.remove("limited");
  await driver.sweep();
  // The kernel frees what was destroyed in its own time, and sooner after a commit.
  for (let round = 0; round < 200 && groups(path)?.size !== before - 1; round++) {
    execFileSync("btrfs", ["filesystem", "sync", path]);
    await sleep(50);
    // Kernels that keep a group for ever are asked again with the next removal.
    await driver.sweep();
  }
  const left = execFileSync("btrfs", ["qgroup", "show", "-re", path], { encoding: "utf8" });
  assert.equal(groups(path)?.size, before - 1, `the group of a removed layer is left: ${left}`);
  assert.deepEqual(limits(path), []);
  await driver[Symbol.asyncDispose]();
  assert.notEqual(groups(path), undefined);
});

const write = (path: string, megabytes: number): void =>
  void execFileSync("dd", ["if=/dev/urandom", `of=${path}`, "bs=1M", `count=${megabytes}`, "conv=fsync"], {
    stdio: "pipe",
  });

test("a limit makes a filesystem count again that has lost count, so that limits hold", async () => {
  await using bench = await opened({ "btrfs.min_space": "1m" });
  const { driver, path } = bench;
  await driver.createWritable({ id: "one", parents: [] }, { size: "20m" });
  const group = [...(groups(path) ?? [])].find(([, limit]) => limit !== "none")?.[0] ?? "";
  const show = execFileSync("btrfs", ["filesystem", "show", path], { encoding: "utf8" });
  const state = `/sys/fs/btrfs/${/uuid: (\S+)/.exec(show)?.[1]}/qgroups/inconsistent`;
  execFileSync("btrfs", ["qgroup", "create", "1/7", path]);
  // What shares its data with others and is put below a group is counted by nobody.
  await driver.createWritable({ id: "other", parents: [] }, {});
  const [data, same] = ["one", "other"].map((id) => join(path, "btrfs/subvolumes", id, "data")) as [string, string];
  write(data, 2);
  execFileSync("cp", ["--reflink=always", data, same]);
  execFileSync("btrfs", ["filesystem", "sync", path]);
  execFileSync("btrfs", ["qgroup", "assign", "--no-rescan", group, "1/7", path], { stdio: "ignore" });
  assert.equal(readFileSync(state, "utf8").trim(), "1", "the kernel has lost count");
  await driver.createWritable({ id: "two", parents: [] }, { size: "4m" });
  for (let round = 0; round < 400 && readFileSync(state, "utf8").trim() !== "0"; round++) await sleep(50);
  assert.equal(readFileSync(state, "utf8").trim(), "0", "it counts again");
  assert.throws(() => write(join(path, "btrfs/subvolumes/two/data"), 40), /Disk quota exceeded/);
});

test("kernels remove groups themselves from 6.11 on", () => {
  for (const [kernel, themselves] of [
    ["5.15.0-1-amd64", false],
    ["6.1.0-56-cloud-amd64", false],
    ["6.10.14", false],
    ["6.11.0", true],
    ["6.18.44-fc", true],
    ["7.0.1", true],
  ] as const)
    assert.equal(removesGroups(kernel), themselves, kernel);
});

test("btrfs.min_space is the least that a container may ask for", async () => {
  await using bench = await opened({ "btrfs.min_space": "10m" });
  const { driver, path } = bench;
  assert.notEqual(groups(path), undefined);
  await assert.rejects(driver.createWritable({ id: "x", parents: [] }, { size: "9m" }), {
    code: "invalid_argument",
    message: "btrfs: storage size cannot be less than 10.49MB",
  });
  await assert.rejects(driver.createWritable({ id: "x", parents: [] }, { size: "0" }), {
    message: "btrfs: invalid storage size: 0B",
  });
  assert.deepEqual(await driver.list(), []);
  await driver.createWritable({ id: "x", parents: [] }, { size: "10m" });
  await driver.createWritable({ id: "free", parents: [] }, {});
  assert.deepEqual(limits(path), [`${10 << 20}`]);
});

test("btrfs.size is what a container gets that asks for nothing; layers have no limit", async () => {
  await using bench = await opened({ "btrfs.size": "30m" });
  const { driver, path } = bench;
  await driver.stage({ id: "image", parents: [] });
  await driver.commit({ id: "image", parents: [] });
  assert.deepEqual(limits(path), []);
  await driver.createWritable({ id: "one", parents: ["image"] }, {});
  await driver.createWritable({ id: "two", parents: ["image"] }, { size: "40m" });
  assert.deepEqual(limits(path).sort(), [`${30 << 20}`, `${40 << 20}`]);
});

test("a standard size below the least, and what is no size, are refused at start-up", async () => {
  await using loop = await loopHome("btrfs");
  await using pool = createPool({ size: 1 });
  const open = (options: Readonly<Record<string, string>>): Promise<StorageDriver> =>
    btrfs.open(join(loop.path, "btrfs"), options, { pool });
  await assert.rejects(open({ "btrfs.min_space": "2g", "btrfs.size": "1g" }), /cannot be less than 2.147GB/);
  await assert.rejects(open({ "btrfs.min_space": "much" }), /invalid size: 'much'/);
  await assert.rejects(open({ "btrfs.speed": "9" }), /btrfs: unknown option btrfs.speed/);
});
