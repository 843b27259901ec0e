import assert from "node:assert/strict";
import { lstatSync, mkdirSync, readdirSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { isMountPoint, mountTable } from "../host/mount.ts";
import { btrfs } from "../storage-driver/btrfs/driver.ts";
import type { DriverFactory } from "../storage-driver/driver.ts";
import { overlay2 } from "../storage-driver/overlay2/driver.ts";
import { loopHome, scratchHome } from "../storage-driver/scratch-home.ts";
import { vfs } from "../storage-driver/vfs/driver.ts";
import { bytes, collectBytes, diffIdOf, StoreBench, tarOf } from "./store.fixture.ts";

const image = await tarOf(
  { path: "etc", type: "directory", mode: 0o711, mtime: 1000 },
  { path: "etc/hosts", content: "image's", mtime: 1000 },
  { path: "bin/", type: "directory" },
  { path: "bin/sh", content: "#!", mode: 0o755 },
  { path: "dev", type: "symlink", link: "../../../../somewhere/else" },
);
const none = { storageOptions: {}, statements: [] };

const drivers: readonly { factory: DriverFactory; home: () => Promise<AsyncDisposable & { path: string }> }[] = [
  { factory: overlay2, home: scratchHome },
  { factory: vfs, home: scratchHome },
  { factory: btrfs, home: () => loopHome("btrfs") },
];

for (const { factory, home } of drivers)
  describe(`writable layers on ${factory.name}`, () => {
    async function withContainer(use: (bench: StoreBench, path: string) => Promise<void>): Promise<void> {
      await using base = await home();
      await using bench = await StoreBench.open(factory, base.path);
      const { chainId } = await bench.add(undefined, image, "image:a");
      await bench.store.createWritable("c1", chainId, none);
      await use(bench, await bench.store.mountWritable("c1", "run"));
    }

    test("a fresh one has size 0, no changes and an empty tar", () =>
      withContainer(async ({ store }) => {
        assert.equal(await store.writableSize("c1"), 0);
        assert.deepEqual(await store.changes("c1"), []);
        assert.deepEqual(await collectBytes(store.changesTar("c1")), Buffer.alloc(1024));
        await store.unmountWritable("c1", "run");
        assert.equal(await store.writableSize("c1"), 0);
      }));

    test("the init layer makes what is missing, keeps what is there, and stays inside the root", () =>
      withContainer(async (_, path) => {
        for (const name of ["proc", "sys"]) assert.equal(lstatSync(join(path, name)).isDirectory(), true, name);
        for (const name of [".dockerenv", "etc/hostname", "etc/resolv.conf"])
          assert.equal(lstatSync(join(path, name)).size, 0, name);
        assert.equal(readlinkSync(join(path, "etc/mtab")), "/proc/mounts");
        assert.equal(readlinkSync(join(path, "dev")), "../../../../somewhere/else");
        assert.equal(lstatSync(join(path, "etc/hosts")).size, "image's".length);
        const etc = lstatSync(join(path, "etc"));
        assert.deepEqual([etc.mode & 0o7777, etc.mtimeMs], [0o711, 1_000_000]);
        assert.equal(readdirSync(path).includes("somewhere"), false);
      }));

    test("every user can look into the root, whatever the image says of it, and that is no change of the container's", () =>
      withContainer(async (bench) => {
        const shut = await tarOf({ path: "./", type: "directory", mode: 0o1700 }, { path: "f", content: "f" });
        const { chainId } = await bench.add(undefined, shut, "image:shut");
        await bench.store.createWritable("shut", chainId, none);
        const path = await bench.store.mountWritable("shut", "run");
        assert.equal(lstatSync(path).mode & 0o7777, 0o1755);
        assert.deepEqual(await bench.store.changes("shut"), []);
        assert.deepEqual(await collectBytes(bench.store.changesTar("shut")), Buffer.alloc(1024));
        assert.deepEqual(await collectBytes(bench.store.tar(chainId)), shut, "the image stays what it is");
      }));

    test("one that begins with changes has them whole, and is measured when it is asked for", () =>
      withContainer(async (bench, path) => {
        const changes = await tarOf(
          { path: "bin/", type: "directory", mode: 0o750, mtime: 1000, mtimeNsec: 5 },
          { path: "bin/.wh.sh" },
          { path: "bin/own", content: "own", mtime: 1000, mtimeNsec: 123_456_789 },
          { path: "bin/same", type: "link", link: "bin/own" },
        );
        const statements = [{ sql: "CREATE TABLE joined (id TEXT) STRICT", parameters: [] }];
        const top = bench.store.list()[0]?.chainId;
        await bench.store.createWritable("c2", top, { storageOptions: {}, statements, changes: bytes(changes) });
        assert.deepEqual(bench.database.all("SELECT id FROM joined"), [], "the statements went with it");
        assert.equal(await bench.store.writableSize("c2"), 3);
        assert.deepEqual(await bench.store.changes("c2"), [
          { path: "/bin", kind: 0 },
          { path: "/bin/own", kind: 1 },
          { path: "/bin/same", kind: 1 },
          { path: "/bin/sh", kind: 2 },
        ]);
        const tree = await bench.store.mountWritable("c2", "look");
        const [own, same] = ["bin/own", "bin/same"].map((name) => lstatSync(join(tree, name), { bigint: true }));
        assert.equal(own?.mtimeNs, 1_000_123_456_789n);
        assert.equal(own?.ino, same?.ino);
        assert.equal(lstatSync(join(tree, "bin"), { bigint: true }).mtimeNs, 1_000_000_000_005n);
        assert.equal(lstatSync(join(path, "bin/sh")).size, 2, "the other container has its own");
        await bench.store.unmountWritable("c2", "look");
        await bench.assertTidy();
      }));

    test("one whose changes cannot be applied leaves nothing", () =>
      withContainer(async (bench) => {
        const broken = tarOf({ path: "a", content: "a" }, { path: "b/.wh." });
        const top = bench.store.list()[0]?.chainId;
        const making = bench.store.createWritable("c2", top, { ...none, changes: bytes(await broken) });
        await assert.rejects(making, /invalid whiteout name/);
        assert.throws(() => bench.store.describeWritable("c2"), /No such writable layer/);
        await bench.assertTidy();
      }));

    test("size, changes and tar tell what was written, mounted or not, and nothing of the engine's own", () =>
      withContainer(async ({ store }, path) => {
        writeFileSync(join(path, "bin/sh"), "#!/changed");
        mkdirSync(join(path, "data"));
        writeFileSync(join(path, "data/new"), "x".repeat(100));
        rmSync(join(path, "etc/hosts"));
        const changes = [
          { path: "/bin", kind: 0 },
          { path: "/bin/sh", kind: 0 },
          { path: "/data", kind: 1 },
          { path: "/data/new", kind: 1 },
          { path: "/etc", kind: 0 },
          { path: "/etc/hosts", kind: 2 },
        ];
        // A directory in which only an entry's content changed is not told by comparison.
        const told = (await store.changes("c1")).filter((change) => change.path !== "/bin");
        assert.deepEqual(
          told,
          changes.filter((change) => change.path !== "/bin"),
        );
        assert.equal(await store.writableSize("c1"), 110);
        const tar = await collectBytes(store.changesTar("c1"));
        await store.unmountWritable("c1", "run");
        assert.equal(await store.writableSize("c1"), 110);
        assert.deepEqual(
          (await store.changes("c1")).filter((change) => change.path !== "/bin"),
          told,
        );
        assert.equal((await collectBytes(store.changesTar("c1"))).equals(tar), true);
        assert.match(tar.toString("latin1"), /etc\/\.wh\.hosts/);
        assert.doesNotMatch(tar.toString("latin1"), /dockerenv|mtab/);
      }));

    test("a commit of the changes is a layer that shows them", () =>
      withContainer(async (bench, path) => {
        const { store } = bench;
        writeFileSync(join(path, "new"), "committed");
        rmSync(join(path, "etc/hosts"));
        const parent = store.list()[0]?.chainId;
        const layer = await store.register(parent, store.changesTar("c1"));
        await store.publish([layer], store.holdStatements("image:b", layer.chainId));
        await using tree = await store.mountLayer(layer.chainId);
        assert.deepEqual(readdirSync(tree.path).sort(), ["bin", "dev", "etc", "new"]);
        assert.deepEqual(readdirSync(join(tree.path, "etc")), []);
        const tar = await collectBytes(store.tar(layer.chainId));
        assert.equal(diffIdOf(tar), layer.diffId);
      }));

    test("a size is never stale: the mark of a mount outlives a crash, a measured figure needs no walk", () =>
      withContainer(async (bench, path) => {
        writeFileSync(join(path, "new"), "x".repeat(50));
        await bench.reopen("crash");
        assert.equal(await bench.store.writableSize("c1"), 50);
        await bench.store.unmountWritable("c1", "run");
        assert.equal(await bench.store.writableSize("c1"), 50);
        // Written behind the store's back: only a walk would see it.
        await using tree = await mountBehind(bench);
        writeFileSync(join(tree.path, "hidden"), "xx");
        await tree[Symbol.asyncDispose]();
        assert.equal(await bench.store.writableSize("c1"), 50);
        await bench.store.mountWritable("c1", "run");
        assert.equal(await bench.store.writableSize("c1"), 52);
      }));

    test("mounts are counted by holder, found again after a restart, and gone with the last holder", () =>
      withContainer(async (bench, path) => {
        assert.equal(await bench.store.mountWritable("c1", "cp"), path);
        await bench.store.unmountWritable("c1", "run");
        await bench.store.unmountWritable("c1", "run");
        assert.equal(isMountPoint(path), true);
        const [mount] = mountTable().filter(({ target }) => target === path);
        await bench.reopen();
        assert.equal(await bench.store.mountWritable("c1", "run"), path);
        assert.deepEqual(
          mountTable().filter(({ target }) => target === path),
          [mount],
        );
        await bench.store.unmountWritable("c1", "run");
        assert.deepEqual(bench.mounts("layers"), []);
        assert.deepEqual(readdirSync(join(bench.execRoot, "layers")), []);
        await bench.assertTidy();
      }));

    test("removing takes mount, data and marks, is idempotent, and runs its statements", () =>
      withContainer(async (bench, path) => {
        const { store, database } = bench;
        writeFileSync(join(path, "new"), "x");
        const release = store.releaseStatements("image:a");
        await store.removeWritable("c1", release);
        await store.removeWritable("c1", []);
        assert.deepEqual(bench.mounts("layers"), []);
        assert.deepEqual(database.all("SELECT owner FROM layer_owners"), []);
        await assert.rejects(store.mountWritable("c1", "run"), { code: "not_found" });
        await assert.rejects(store.writableSize("c1"), { code: "not_found" });
        assert.deepEqual(readdirSync(join(bench.root, "layers/open")), []);
        await store.collect();
        await bench.reopen();
        await bench.assertTidy();
        assert.deepEqual(await bench.driver.list(), []);
      }));

    test("a failed creation leaves nothing, a second one of the same id is a conflict", () =>
      withContainer(async (bench) => {
        const { store } = bench;
        const top = store.list()[0]?.chainId;
        await assert.rejects(store.createWritable("c1", top, none), { code: "conflict" });
        await assert.rejects(store.createWritable("c2", top, { storageOptions: { speed: "9" }, statements: [] }), {
          code: "invalid_argument",
        });
        const statements = [{ sql: "UPDATE layer_layers SET size = 0 WHERE id = 'nobody'", changes: 1 }];
        await assert.rejects(store.createWritable("c2", top, { storageOptions: {}, statements }), { code: "conflict" });
        await bench.assertTidy();
        await store.createWritable("c2", top, none);
      }));

    test("a container without an image has an empty root with the engine's files", () =>
      withContainer(async ({ store }) => {
        await store.createWritable("scratch", undefined, none);
        const path = await store.mountWritable("scratch", "run");
        assert.deepEqual(readdirSync(path).sort(), [".dockerenv", "dev", "etc", "proc", "sys"]);
        assert.deepEqual(readdirSync(join(path, "dev")).sort(), ["console", "pts", "shm"]);
        assert.deepEqual(await store.changes("scratch"), []);
      }));

    test("describing names the mount that there is", () =>
      withContainer(async ({ store }, path) => {
        const described = store.describeWritable("c1");
        if ("MergedDir" in described) assert.equal(described.MergedDir, path);
        const directory = store.changesDirectory("c1");
        assert.equal(directory?.path, described.UpperDir);
      }));

    /** Another mount of the container's data, unknown to the store. */
    async function mountBehind(bench: StoreBench): Promise<AsyncDisposable & { path: string }> {
      const row = bench.database.get("SELECT data, init FROM layer_writables");
      const parents = bench.database
        .all("SELECT id FROM layer_layers WHERE kind = 'image'")
        .map(({ id }) => String(id));
      const layer = { id: String(row?.data), parents: [String(row?.init), ...parents] };
      const { TemporaryMounts } = await import("./temporary-mounts.ts");
      return new TemporaryMounts(bench.execRoot).mount(await bench.driver.mounts(layer, "writable"));
    }
  });
