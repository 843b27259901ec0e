import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { statfsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { changeTree, randomOf } from "../archive/random-changes.fixture.ts";
import type { ChainId } from "../base/digest.ts";
import { makeSubvolumeTask } from "../host/subvolume-task.ts";
import { pictureOf } from "../host/tree-picture.ts";
import { btrfs } from "../storage-driver/btrfs/driver.ts";
import type { DriverFactory, StorageDriver } from "../storage-driver/driver.ts";
import { overlay2 } from "../storage-driver/overlay2/driver.ts";
import { loopHome, scratchHome } from "../storage-driver/scratch-home.ts";
import { vfs } from "../storage-driver/vfs/driver.ts";
import { zfs } from "../storage-driver/zfs/driver.ts";
import { cannotMakePool, zfsHome } from "../storage-driver/zfs/zfs-pool.fixture.ts";
import { bytes, StoreBench, tarOf } from "./store.fixture.ts";

const seed = Number(process.env.STRATA_SEED ?? Date.now() % 1_000_000);

/** The same driver without the power to clone: everything goes through mounts. */
const withoutClone = (factory: DriverFactory): DriverFactory => ({
  ...factory,
  open: async (...args) => {
    const driver = await factory.open(...args);
    return new Proxy(driver, {
      get: (of, key) => {
        if (key === "cloneWritable") return undefined;
        const value: unknown = Reflect.get(of, key);
        return typeof value === "function" ? value.bind(of) : value;
      },
    }) as StorageDriver;
  },
});

type ForkBench = {
  readonly name: string;
  readonly factory: DriverFactory;
  readonly home: () => Promise<AsyncDisposable & { readonly path: string }>;
  readonly skip?: string | false;
};

const benches: readonly ForkBench[] = [
  { name: "overlay2", factory: overlay2, home: scratchHome },
  { name: "overlay2 through mounts", factory: withoutClone(overlay2), home: scratchHome },
  { name: "vfs through mounts", factory: withoutClone(vfs), home: scratchHome },
  { name: "vfs on xfs", factory: vfs, home: () => loopHome("xfs") },
  { name: "btrfs", factory: btrfs, home: () => loopHome("btrfs") },
  { name: "zfs", factory: zfs, home: zfsHome, skip: cannotMakePool() },
];

async function imageOf({ store }: StoreBench): Promise<ChainId> {
  const tar = await tarOf(
    { path: "./", type: "directory" },
    { path: "d", type: "directory" },
    { path: "d/x", content: "x" },
    { path: "d/y", content: "y" },
    { path: "e", content: "e".repeat(50_000) },
  );
  const layer = await store.register(undefined, bytes(tar));
  await store.publish([layer], store.holdStatements("image:one", layer.chainId));
  return layer.chainId;
}

const free = { storageOptions: {}, statements: [] };

async function shown({ store }: StoreBench, id: string): Promise<string[]> {
  const path = await store.mountWritable(id, "look");
  const lines = pictureOf(path);
  await store.unmountWritable(id, "look");
  return lines;
}

for (const { name, factory, home, skip = false } of benches)
  describe(`fork on ${name}`, { skip }, () => {
    let base: Awaited<ReturnType<typeof home>>;
    let bench: StoreBench;
    before(async () => {
      base = await home();
      bench = await StoreBench.open(factory, base.path);
    });
    after(async () => {
      await bench[Symbol.asyncDispose]();
      await base[Symbol.asyncDispose]();
    });

    test("a fork is what its source is, to the last attribute; then each goes its own way", async () => {
      const { store } = bench;
      const top = await imageOf(bench);
      await store.createWritable("source", top, free);
      const path = await store.mountWritable("source", "container");
      changeTree(path, randomOf(seed), 40);
      const truth = pictureOf(path);
      await store.forkWritable("source", "fork", free);
      assert.deepEqual(await shown(bench, "fork"), truth, `STRATA_SEED=${seed}`);
      assert.deepEqual(await store.changes("fork"), await store.changes("source"));
      // Honest at once. A file that was touched and is again what the image has counts in an upper, and is not copied.
      const [size, sizeOfSource] = [await store.writableSize("fork"), await store.writableSize("source")];
      if (name === "overlay2 through mounts") assert.ok(size <= sizeOfSource);
      else assert.equal(size, sizeOfSource, `STRATA_SEED=${seed}`);
      writeFileSync(join(path, "later"), "only here");
      assert.deepEqual(await shown(bench, "fork"), truth);
      await store.unmountWritable("source", "container");
      await store.removeWritable("source", []);
      await bench.reopen();
      assert.deepEqual(await shown(bench, "fork"), truth, "it stands alone, also after a restart");
      await bench.store.removeWritable("fork", []);
    });

    test("a fork whose record cannot be written leaves nothing", async () => {
      const { store, driver } = bench;
      const top = store.list()[0]?.chainId;
      await store.createWritable("source", top, free);
      const before = await driver.list();
      const statements = [{ sql: "DELETE FROM layer_owners WHERE owner = 'nobody'", changes: 1 }];
      await assert.rejects(store.forkWritable("source", "fork", { storageOptions: {}, statements }), {
        code: "conflict",
      });
      assert.deepEqual((await driver.list()).toSorted(), before.toSorted());
      await store.removeWritable("source", []);
    });
  });

/** What the fork of a container that wrote 200 MB takes from the filesystem. */
async function cost(factory: DriverFactory, type: "btrfs" | "xfs"): Promise<number> {
  await using base = await loopHome(type);
  await using bench = await StoreBench.open(factory, base.path);
  const { store } = bench;
  await store.createWritable("source", await imageOf(bench), free);
  const path = await store.mountWritable("source", "container");
  const block = Buffer.alloc(1 << 20);
  for (let file = 0; file < 4; file++)
    for (let at = 0; at < 50; at++) writeFileSync(join(path, `file${file}`), block.fill(at + file), { flag: "a" });
  const used = (): number => {
    execFileSync("sync", ["-f", base.path]);
    const { bfree, bsize } = statfsSync(base.path);
    return -bfree * bsize;
  };
  const before = used();
  await store.forkWritable("source", "fork", free);
  const taken = used() - before;
  assert.equal(await store.writableSize("fork"), 200 << 20);
  await store.unmountWritable("source", "container");
  return taken;
}

for (const [factory, type] of [
  [btrfs, "btrfs"],
  [overlay2, "xfs"],
  [vfs, "xfs"],
] as const)
  test(`the fork of a container with 200 MB takes no blocks for them: ${factory.name} on ${type}`, async (t) => {
    const taken = await cost(factory, type);
    t.diagnostic(`${taken} bytes`);
    assert.ok(taken < 8 << 20, `it took ${taken} bytes`);
  });

test("btrfs: subvolumes that a container made are in its fork too", async () => {
  await using base = await loopHome("btrfs");
  await using bench = await StoreBench.open(btrfs, base.path);
  const { store } = bench;
  await store.createWritable("source", await imageOf(bench), free);
  const path = await store.mountWritable("source", "container");
  makeSubvolumeTask({ path: join(path, "nested") });
  writeFileSync(join(path, "nested/file"), "kept");
  await store.forkWritable("source", "fork", free);
  assert.ok((await shown(bench, "fork")).some((line) => line.startsWith("/nested/file ")));
  await store.unmountWritable("source", "container");
});
