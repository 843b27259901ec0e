import assert from "node:assert/strict";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import { openStores, type Stores } from "../../test/support/stores.ts";
import { TarWriter } from "../archive/write-tar.ts";
import { digestOf, type ImageId, parseImageId } from "../base/digest.ts";
import { errorMessage, isError } from "../base/errors.ts";
import type { HistoryEntry } from "../base/oci.ts";
import type { PendingLayer } from "../layer/store.ts";
import { historyOf } from "./history.ts";
import { listImages } from "./list.ts";
import { pruneImages } from "./prune.ts";
import { layersSize, sharedSizes } from "./sizes.ts";
import type { RemovedImage } from "./store.ts";

type Made = {
  /** Contents of one file per layer, lowest first. */
  readonly layers: readonly string[];
  readonly tag?: string;
  readonly parent?: ImageId;
  readonly created?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly history?: readonly HistoryEntry[];
};

async function* layerTar(content: string): AsyncIterable<Uint8Array> {
  const chunks: Uint8Array[] = [];
  const writer = new TarWriter(async (chunk) => void chunks.push(chunk));
  await writer.add({ path: content.slice(0, 50), type: "file", mode: 0o644 }, Buffer.from(content));
  await writer.finish();
  yield* chunks;
}

async function make(stores: Stores, image: Made): Promise<ImageId> {
  const pending: PendingLayer[] = [];
  for (const content of image.layers)
    pending.push(await stores.layers.register(pending.at(-1)?.chainId, layerTar(content)));
  const bytes = JSON.stringify({
    architecture: "amd64",
    os: "linux",
    created: image.created ?? "2026-01-01T00:00:00.5Z",
    config: { Labels: image.labels ?? null },
    rootfs: { type: "layers", diff_ids: pending.map(({ diffId }) => diffId) },
    history: image.history ?? image.layers.map((created_by) => ({ created_by, created: "2026-01-01T00:00:00Z" })),
  });
  const id = parseImageId(digestOf(bytes));
  await stores.layers.publish(pending, [
    ...stores.images.putStatements({ id, bytes, parent: image.parent, local: true }),
    ...(image.tag === undefined ? [] : stores.images.tagStatements(image.tag, id)),
  ]);
  return id;
}

const removal = { force: false, prune: true, usedBy: () => [] };
const text = (item: RemovedImage): string => ("untagged" in item ? `-${item.untagged}` : item.deleted);

test("an image is found by every name that Docker takes", async () => {
  await using stores = await openStores();
  const id = await make(stores, { layers: ["a"], tag: "acme/app:1" });
  await stores.images.tag("acme/app:1", "app");
  const hex = id.slice("sha256:".length);
  for (const name of [
    "acme/app:1",
    "docker.io/acme/app:1",
    "app",
    "app:latest",
    id,
    hex,
    hex.slice(0, 12),
    hex.slice(0, 2),
    `sha256:${hex.slice(0, 5)}`,
  ])
    assert.equal(stores.images.get(name).id, id, name);
  assert.deepEqual(stores.images.get(id).references, ["docker.io/acme/app:1", "docker.io/library/app:latest"]);
  for (const [name, shown] of [
    ["nope", "nope:latest"],
    ["acme/app", "acme/app:latest"],
    ["f".repeat(64), `sha256:${"f".repeat(64)}`],
    [`x@${digestOf("y")}`, `x@${digestOf("y")}`],
  ] as const)
    assert.throws(
      () => stores.images.get(name),
      (error) => isError(error, "not_found") && error.message === `No such image: ${shown}`,
      name,
    );
  assert.equal(stores.images.find("nope"), undefined);
  assert.throws(() => stores.images.get("Upper"), /must be lowercase/);
});

test("two images whose ids begin alike are not found by that beginning", async () => {
  await using stores = await openStores();
  const ids = [];
  for (let index = 0; index < 20; index++) ids.push(await make(stores, { layers: [], labels: { n: String(index) } }));
  const firsts = ids.map((id) => id.slice(7, 8));
  const double = firsts.find((first, index) => firsts.indexOf(first) !== index);
  assert.ok(double !== undefined, "of 20 ids two begin with the same of 16 digits");
  assert.equal(stores.images.find(double), undefined);
});

test("a tag moves from image to image, and refuses what is no tag", async () => {
  await using stores = await openStores();
  const [first, second] = [await make(stores, { layers: ["a"], tag: "x:1" }), await make(stores, { layers: ["b"] })];
  await stores.images.tag(second, "x:1");
  assert.deepEqual([stores.images.getById(first).references, stores.images.get("x:1").id], [[], second]);
  await assert.rejects(
    stores.images.tag(second, `x@${digestOf("y")}`),
    /refusing to create a tag with a digest reference/,
  );
  await assert.rejects(stores.images.tag(second, "sha256:x"), /ambiguous tag/);
  await assert.rejects(stores.images.tag("nope", "y"), /No such image: nope:latest/);
});

test("removal tells references, images and layers in Docker's order, and the layers are gone", async () => {
  await using stores = await openStores();
  const parent = await make(stores, { layers: ["base"] });
  const child = await make(stores, { layers: ["base", "top"], tag: "x:1", parent });
  const chain = stores.layers.chain(stores.images.getById(child).top ?? assert.fail());
  const removed = await stores.images.remove("x:1", removal);
  assert.deepEqual(removed.map(text), ["-x:1", child, chain[1]?.chainId, parent, chain[0]?.chainId]);
  assert.deepEqual([stores.images.list(), stores.layers.list()], [[], []]);
  await assert.rejects(stores.images.remove("x:1", removal), /No such image: x:1/);
});

test("layers that another image holds stay", async () => {
  await using stores = await openStores();
  await make(stores, { layers: ["base", "one"], tag: "one" });
  const two = await make(stores, { layers: ["base", "two"], tag: "two" });
  await stores.images.remove("two", removal);
  assert.equal(stores.layers.list().length, 2);
  assert.equal(stores.images.find(two), undefined);
});

test("of removals at once one wins and the others find nothing", async () => {
  await using stores = await openStores();
  await make(stores, { layers: ["a"], tag: "x:1" });
  const results = await Promise.allSettled(Array.from({ length: 4 }, () => stores.images.remove("x:1", removal)));
  assert.deepEqual(results.map(({ status }) => status).sort(), ["fulfilled", "rejected", "rejected", "rejected"]);
  for (const result of results)
    if (result.status === "rejected") assert.equal(errorMessage(result.reason), "No such image: x:1");
});

test("a config that is not what its id says is refused on the way in and on the way out", async () => {
  await using stores = await openStores();
  const id = await make(stores, { layers: [], tag: "x" });
  assert.throws(
    () => stores.images.putStatements({ id, bytes: '{"rootfs":{"type":"layers"}}', local: false }),
    (error) => isError(error, "data_loss"),
  );
  const good = await make(stores, { layers: [], labels: { good: "1" } });
  const outside = new DatabaseSync(join(stores.root, "meta.db"));
  outside.prepare("UPDATE image SET bytes = replace(bytes, 'amd64', 'arm64') WHERE id = ?").run(id);
  outside.close();
  assert.throws(
    () => stores.images.get("x"),
    (error) => isError(error, "data_loss") && error.message.includes(id),
  );
  assert.deepEqual(
    stores.images.list().map((image) => image.id),
    [good],
  );
  assert.deepEqual(
    stores.images.damaged().map((image) => image.id),
    [id],
  );
});

test("history shows every instruction, newest first, with ids of the images that are here", async () => {
  await using stores = await openStores();
  const history = [
    { created: "2026-01-01T00:00:00Z", created_by: "ADD base" },
    { created: "2026-01-01T00:00:01Z", created_by: "ENV", empty_layer: true },
    { created: "2026-01-01T00:00:02Z", created_by: "COPY", comment: "c" },
  ];
  const parent = await make(stores, { layers: ["base"], tag: "base:1", history: history.slice(0, 2) });
  const id = await make(stores, { layers: ["base", "longer"], parent, history });
  await stores.images.tag(id, "app:1");
  const rows = historyOf(stores.images.getById(id), stores);
  assert.deepEqual(
    rows.map((row) => [row.Id, row.CreatedBy, row.Size, row.Tags, row.Comment]),
    [
      [id, "COPY", 6, ["app:1"], "c"],
      [parent, "ENV", 0, ["base:1"], ""],
      ["<missing>", "ADD base", 4, null, ""],
    ],
  );
  assert.equal(rows[0]?.Created, Date.UTC(2026, 0, 1, 0, 0, 2) / 1000);
});

test("the list shows heads, newest first, by Docker's filters", async () => {
  await using stores = await openStores();
  const old = await make(stores, {
    layers: ["a"],
    tag: "acme/old:1",
    created: "2020-01-01T00:00:00Z",
    labels: { k: "v" },
  });
  const hidden = await make(stores, { layers: ["b"], created: "2021-01-01T00:00:00Z" });
  const child = await make(stores, {
    layers: ["b", "c"],
    parent: hidden,
    tag: "child:1",
    created: "2022-01-01T00:00:00Z",
    labels: { k: "w" },
  });
  const loose = await make(stores, { layers: ["d"], created: "2023-01-01T00:00:00Z" });
  const shown = (filters: Readonly<Record<string, readonly string[]>> = {}, all = false) =>
    listImages(stores.images, { all, filters }).map(({ image }) => image.id);
  assert.deepEqual(shown(), [loose, child, old]);
  assert.deepEqual(shown({}, true), [loose, child, hidden, old]);
  assert.deepEqual(shown({ dangling: ["true"] }), [loose]);
  assert.deepEqual(shown({ dangling: ["false"] }), [child, old]);
  assert.deepEqual(shown({ label: ["k"] }), [child, old]);
  assert.deepEqual(shown({ label: ["k=v"] }), [old]);
  assert.deepEqual(shown({ "label!": ["k=v"] }), [loose, child]);
  assert.deepEqual(shown({ before: ["child:1"] }), [old]);
  assert.deepEqual(shown({ since: ["child:1"] }), [loose]);
  assert.deepEqual(shown({ until: ["2021-06-01"] }, true), [hidden, old]);
  assert.deepEqual(shown({ reference: ["chi*", "acme/*:1"] }), [child, old]);
  assert.throws(() => shown({ dangling: ["maybe"] }), /invalid filter 'dangling=\[maybe\]'/);
  assert.throws(() => shown({ nonsense: ["x"] }), /invalid filter 'nonsense'/);
  assert.throws(() => shown({ before: ["nope"] }), /No such image: nope:latest/);
});

test("prune takes what is dangling, or all that is unused, and counts the bytes", async () => {
  await using stores = await openStores();
  await make(stores, { layers: ["kept-tagged"], tag: "x:1" });
  await make(stores, { layers: ["loose"] });
  const used = await make(stores, { layers: ["used"], tag: "used:1" });
  const usedBy = (id: ImageId) => (id === used ? [{ id: "c".repeat(64), running: false }] : []);
  const dangling = await pruneImages(stores, { filters: {}, usedBy });
  assert.equal(dangling.reclaimed, "loose".length);
  assert.equal(stores.images.list().length, 2);
  const all = await pruneImages(stores, { filters: { dangling: ["false"] }, usedBy });
  assert.equal(all.reclaimed, "kept-tagged".length);
  assert.deepEqual(all.removed.map(text).slice(0, 1), ["-x:1"]);
  assert.deepEqual(
    stores.images.list().map(({ id }) => id),
    [used],
  );
  const young = await pruneImages(stores, { filters: { dangling: ["0"], until: ["2019-01-01"] }, usedBy: () => [] });
  assert.deepEqual(young, { removed: [], reclaimed: 0 });
});

test("shared sizes count the layers that another image has too", async () => {
  await using stores = await openStores();
  const one = await make(stores, { layers: ["base", "one"] });
  const two = await make(stores, { layers: ["base", "two"] });
  const three = await make(stores, { layers: ["alone"] });
  const shared = sharedSizes(stores.images.list(), stores.layers);
  assert.deepEqual(
    [one, two, three].map((id) => shared.get(id)),
    [4, 4, 0],
  );
  assert.equal(layersSize(stores.layers), 4 + 3 + 3 + 5);
});
