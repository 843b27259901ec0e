import assert from "node:assert/strict";
import { test } from "node:test";
import type { ChainId } from "../base/digest.ts";
import { pictureOf } from "../host/tree-picture.ts";
import { overlay2 } from "../storage-driver/overlay2/driver.ts";
import { vfs } from "../storage-driver/vfs/driver.ts";
import { bytes, collectBytes, diffIdOf, StoreBench, type TestEntry, tarOf } from "./store.fixture.ts";

const directory = (path: string, more: Partial<TestEntry> = {}): TestEntry => ({ path, type: "directory", ...more });

/** How the layer came to stand over its parent. */
type Way = "shared" | "corrected" | "applied";

const below: readonly TestEntry[] = [
  directory("private", { mode: 0o700, uid: 7, gid: 8, xattrs: new Map([["user.note", Buffer.from("below")]]) }),
  { path: "private/old", content: "old" },
  directory("real"),
  { path: "real/old", content: "old" },
  { path: "link", type: "symlink", link: "real" },
  { path: "file", content: "file" },
];

const cases: readonly (readonly [string, Way, readonly TestEntry[]])[] = [
  ["a new file in the root", "shared", [{ path: "new" }]],
  ["a described directory with its files", "shared", [directory("real"), { path: "real/new" }]],
  ["a whiteout of what is below", "shared", [directory("real"), { path: "real/.wh.old" }]],
  ["a whiteout of what is not below", "shared", [directory("real"), { path: "real/.wh.never" }]],
  ["an opaque directory", "shared", [directory("real"), { path: "real/.wh..wh..opq" }, { path: "real/new" }]],
  [
    "a whiteout beside the directory it names",
    "shared",
    [directory("private", { mode: 0o755 }), { path: ".wh.private" }],
  ],
  ["a directory over a file", "shared", [directory("file"), { path: "file/new" }]],
  ["a file over a directory", "shared", [{ path: "real" }]],
  [
    "a directory where the layer had a file",
    "shared",
    [{ path: "private" }, directory("private"), { path: "private/x" }],
  ],
  ["an implied directory keeps its attributes", "corrected", [{ path: "private/new" }]],
  ["attributes that no entry names", "corrected", [directory("private", { mode: 0o700, uid: 7, gid: 8 })]],
  ["a whiteout in an implied directory", "corrected", [{ path: "private/.wh.old" }]],
  ["a whiteout where no directory is", "applied", [directory("never"), { path: "never/.wh.old" }]],
  ["an implied directory that is a symlink below", "applied", [{ path: "link/new" }]],
  [
    "a whiteout through a symlink below, whose name the layer then gives to something else",
    "applied",
    [{ path: "link/.wh.old" }, { path: "link", type: "symlink", link: "private" }],
  ],
  [
    "all hidden through a symlink below, whose name the layer then gives to something else",
    "applied",
    [{ path: "link/.wh..wh..opq" }, { path: "link", type: "symlink", link: "private" }],
  ],
  ["a hard link to a file below", "applied", [{ path: "again", type: "link", link: "real/old" }]],
  ["a root that hides all", "applied", [{ path: ".wh..wh..opq" }, { path: "new" }]],
];

function wayOf({ database }: StoreBench, chainId: ChainId): Way {
  const row = database.get("SELECT diff, thin FROM layer_layers WHERE chain_id = ?", chainId);
  if (row?.diff === null) return "applied";
  return row?.thin === 1 ? "shared" : "corrected";
}

const started = BigInt(Date.now()) * 1_000_000n;

/** Times that nobody described differ from run to run. */
async function shown(bench: StoreBench, chainId: ChainId): Promise<string[]> {
  await using tree = await bench.store.mountLayer(chainId);
  return pictureOf(tree.path).map((line) =>
    line.replace(/ (\d{19}) ?/, (whole, time: string) => (BigInt(time) >= started - 10_000_000_000n ? " now " : whole)),
  );
}

test("each trap of a diff that does not know what is below it", async (context) => {
  await using truth = await StoreBench.open(vfs);
  await using bench = await StoreBench.open(overlay2);
  const base = await tarOf(...below);
  const parent = (await bench.add(undefined, base, "image:base")).chainId;
  assert.equal((await truth.add(undefined, base, "image:base")).chainId, parent);
  for (const [name, way, entries] of cases)
    await context.test(name, async () => {
      const tar = await tarOf(...entries);
      // First over nothing, so that its diff is there; a tar that means nothing there is refused.
      const alone = await bench.add(undefined, tar, "image:alone").catch(() => undefined);
      const { chainId } = await bench.add(parent, tar, "image:over");
      await truth.add(parent, tar, "image:over");
      assert.equal(wayOf(bench, chainId), way);
      assert.deepEqual(await shown(bench, chainId), await shown(truth, chainId));
      assert.equal((await collectBytes(bench.store.tar(chainId))).equals(tar), true);
      if (alone !== undefined && way !== "applied" && wayOf(bench, alone.chainId) !== "applied")
        assert.equal(bench.store.find(chainId)?.content, bench.store.find(alone.chainId)?.content, "it is shared");
    });
  await bench.assertTidy();
});

test("a shared tar is not read again, counts once, and stays until its last layer goes", async () => {
  await using bench = await StoreBench.open(overlay2);
  const { store, database } = bench;
  const tar = await tarOf(directory("app"), { path: "app/file", content: "x".repeat(1000) });
  const [one, two] = await Promise.all(["1", "2"].map((name) => tarOf({ path: name, content: name })));
  assert.ok(one !== undefined && two !== undefined);
  const low = await bench.add(undefined, one, "image:one");
  const left = await bench.add(low.chainId, tar, "image:one");
  const other = await bench.add(undefined, two, "image:two");
  const unread = bytes(tar);
  const right = await store.register(other.chainId, unread, { expected: diffIdOf(tar) });
  assert.equal((await unread.next()).done, false, "nobody has read it");
  await store.publish([right], store.holdStatements("image:two", right.chainId));
  assert.equal(left.content, right.content);
  assert.notEqual(left.chainId, right.chainId);
  await database.transact(store.releaseStatements("image:one"));
  await store.collect();
  assert.equal(store.list().length, 2);
  await bench.reopen("crash");
  assert.equal((await collectBytes(bench.store.tar(right.chainId))).equals(tar), true);
  await bench.database.transact(bench.store.releaseStatements("image:two"));
  await bench.store.collect();
  assert.deepEqual(await bench.driver.list(), []);
  await bench.assertTidy();
});

test("prepared layers that nobody registers go, registered ones stay", async () => {
  await using bench = await StoreBench.open(overlay2);
  const tar = await tarOf({ path: "file", content: "content" });
  {
    await using prepared = await bench.store.prepare(bytes(tar));
    const layer = await bench.store.register(undefined, bytes(tar), { expected: prepared.diffId });
    await using _lost = await bench.store.prepare(bytes(await tarOf({ path: "other" })));
    await bench.store.publish([layer], bench.store.holdStatements("image:a", layer.chainId));
  }
  assert.equal(bench.store.list().length, 1);
  assert.equal(bench.database.all("SELECT id FROM layer_diffs").length, 1);
  await bench.assertTidy();
});

test("what was removed counts until it is deleted, by the sizes that were known", async () => {
  await using bench = await StoreBench.open(overlay2);
  const layer = await bench.add(undefined, await tarOf({ path: "file", content: "x".repeat(700) }), "image:a");
  const sweep = bench.driver.sweep.bind(bench.driver);
  const gate = Promise.withResolvers<void>();
  Object.defineProperty(bench.driver, "sweep", { value: () => gate.promise.then(() => sweep()), configurable: true });
  assert.equal(bench.store.removedBytes, 0);
  await bench.database.transact(bench.store.releaseStatements("image:a"));
  assert.deepEqual(
    (await bench.store.collect()).map(({ chainId }) => chainId),
    [layer.chainId],
  );
  assert.equal(bench.store.removedBytes, 700);
  gate.resolve();
  for (let turn = 0; bench.store.removedBytes > 0 && turn < 1000; turn++) await new Promise((r) => setTimeout(r, 10));
  assert.equal(bench.store.removedBytes, 0);
});
