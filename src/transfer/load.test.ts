import assert from "node:assert/strict";
import { test } from "node:test";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { openStores, type Stores } from "../../test/support/stores.ts";
import { TarWriter } from "../archive/write-tar.ts";
import { digestOf, hexOf } from "../base/digest.ts";
import { errorCode, errorMessage } from "../base/errors.ts";

type Content = string | Uint8Array | { readonly symlink: string } | { readonly link: string };

async function tarOf(members: readonly (readonly [string, Content])[]): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  const writer = new TarWriter(async (chunk) => void chunks.push(chunk));
  for (const [path, content] of members) {
    if (typeof content === "string") await writer.add({ path, type: "file", mode: 0o644 }, Buffer.from(content));
    else if (content instanceof Uint8Array) await writer.add({ path, type: "file", mode: 0o644 }, content);
    else if ("symlink" in content) await writer.add({ path, type: "symlink", mode: 0o777, link: content.symlink });
    else await writer.add({ path, type: "link", mode: 0o644, link: content.link });
  }
  await writer.finish();
  return Buffer.concat(chunks);
}

/** In small pieces, as a socket gives them. */
async function* pieces(data: Uint8Array): AsyncIterable<Uint8Array> {
  for (let at = 0; at < data.length; at += 3000) yield data.subarray(at, at + 3000);
}

const layer = (name: string): Promise<Buffer> => tarOf([[name, `content of ${name}`]]);
const one = await layer("one");
const two = await layer("two");
const configOf = (layers: readonly Uint8Array[], more: object = {}): string =>
  JSON.stringify({
    architecture: "amd64",
    os: "linux",
    rootfs: { type: "layers", diff_ids: layers.map((tar) => digestOf(tar)) },
    ...more,
  });
const config = configOf([one, two]);
const id = digestOf(config);
const manifest = (entry: object = {}): string =>
  JSON.stringify([{ Config: "c.json", RepoTags: ["acme/app:1"], Layers: ["1/layer.tar", "2/layer.tar"], ...entry }]);

const load = async (stores: Stores, archive: Uint8Array) => {
  const streams: string[] = [];
  const loaded = await stores.transfer.load(pieces(archive), (message) => {
    if ("stream" in message) streams.push(String(message.stream));
  });
  return { loaded, streams };
};

/** Every age and order that is a whole archive of the same image. */
const archives: readonly (readonly [string, () => Promise<Uint8Array>])[] = [
  [
    "manifest first",
    () =>
      tarOf([
        ["manifest.json", manifest()],
        ["c.json", config],
        ["1/layer.tar", one],
        ["2/layer.tar", two],
      ]),
  ],
  [
    "manifest last",
    () =>
      tarOf([
        ["2/layer.tar", two],
        ["1/layer.tar", one],
        ["c.json", config],
        ["manifest.json", manifest()],
      ]),
  ],
  [
    "config after the layers",
    () =>
      tarOf([
        ["manifest.json", manifest()],
        ["1/layer.tar", one],
        ["2/layer.tar", two],
        ["c.json", config],
      ]),
  ],
  [
    "dots before names",
    () =>
      tarOf([
        ["./2/layer.tar", two],
        ["./1/layer.tar", one],
        ["./c.json", config],
        ["./manifest.json", manifest()],
      ]),
  ],
  [
    "a layer behind a symlink",
    () =>
      tarOf([
        ["0/layer.tar", one],
        ["1/layer.tar", { symlink: "../0/layer.tar" }],
        ["2/layer.tar", two],
        ["c.json", config],
        ["manifest.json", manifest()],
      ]),
  ],
  [
    "a symlink before its target",
    () =>
      tarOf([
        ["1/layer.tar", { symlink: "../z/layer.tar" }],
        ["2/layer.tar", two],
        ["c.json", config],
        ["manifest.json", manifest()],
        ["z/layer.tar", one],
      ]),
  ],
  [
    "a layer behind a hard link",
    () =>
      tarOf([
        ["x", one],
        ["1/layer.tar", { link: "x" }],
        ["2/layer.tar", two],
        ["c.json", config],
        ["manifest.json", manifest()],
      ]),
  ],
  [
    "compressed as a whole",
    async () =>
      gzipSync(
        await tarOf([
          ["2/layer.tar", two],
          ["1/layer.tar", one],
          ["c.json", config],
          ["manifest.json", manifest()],
        ]),
      ),
  ],
  [
    "compressed layers",
    () =>
      tarOf([
        ["2/layer.tar", zstdCompressSync(two)],
        ["1/layer.tar", gzipSync(one)],
        ["c.json", config],
        ["manifest.json", manifest()],
      ]),
  ],
  [
    "other files between",
    () =>
      tarOf([
        ["manifest.json", manifest()],
        ["VERSION", "1.0"],
        ["c.json", config],
        ["junk", Buffer.alloc(9999)],
        ["1/layer.tar", one],
        ["2/layer.tar", two],
        ["repositories", "{}"],
      ]),
  ],
];

for (const [name, make] of archives)
  test(`an archive with ${name} loads`, async () => {
    await using stores = await openStores();
    const { loaded, streams } = await load(stores, await make());
    assert.deepEqual(loaded, [{ reference: "docker.io/acme/app:1" }]);
    assert.deepEqual(streams, ["Loaded image: acme/app:1\n"]);
    const image = stores.images.get("acme/app:1");
    assert.equal(image.id, id);
    assert.equal(image.bytes, config);
    assert.equal(image.local, false);
    assert.deepEqual(image.diffIds, [digestOf(one), digestOf(two)]);
    assert.deepEqual(await stores.staged(), []);
    assert.deepEqual((await load(stores, await make())).loaded, loaded, "loading again changes nothing");
    assert.equal(stores.images.list().length, 1);
  });

test("an OCI layout without manifest.json loads, its tag from containerd's annotation", async () => {
  await using stores = await openStores();
  const blob = (data: string | Uint8Array) => [`blobs/sha256/${hexOf(digestOf(data))}`, data] as const;
  const packed = gzipSync(one);
  const flat = configOf([one]);
  const inner = JSON.stringify({
    schemaVersion: 2,
    config: { digest: digestOf(flat) },
    layers: [{ mediaType: "application/vnd.oci.image.layer.v1.tar+gzip", digest: digestOf(packed) }],
  });
  const index = JSON.stringify({
    manifests: [{ digest: digestOf(inner), annotations: { "io.containerd.image.name": "docker.io/library/oci:2" } }],
  });
  await load(stores, await tarOf([["index.json", index], blob(inner), blob(flat), blob(packed)]));
  assert.equal(stores.images.get("oci:2").id, digestOf(flat));
  const untagged = JSON.stringify({ manifests: [{ digest: digestOf(inner) }] });
  const { streams } = await load(
    stores,
    await tarOf([blob(packed), blob(flat), blob(inner), ["index.json", untagged]]),
  );
  assert.deepEqual(streams, [`Loaded image ID: ${digestOf(flat)}\n`]);
  const both = JSON.stringify({ manifests: [], layers: [] });
  const ambiguous = JSON.stringify({ manifests: [{ digest: digestOf(both) }] });
  await assert.rejects(load(stores, await tarOf([["index.json", ambiguous], blob(both)])), /CVE-2021-41190/);
});

test("two images share layers, and a tag that moves is announced", async () => {
  await using stores = await openStores();
  const second = configOf([one], { author: "x" });
  const entries = [
    { Config: "a", RepoTags: ["app:1"], Layers: ["l1", "l2"] },
    { Config: "b", RepoTags: null, Layers: ["l1"] },
  ];
  const archive = await tarOf([
    ["manifest.json", JSON.stringify(entries)],
    ["a", config],
    ["l1", one],
    ["l2", two],
    ["b", second],
  ]);
  assert.deepEqual((await load(stores, archive)).streams, [
    "Loaded image: app:1\n",
    `Loaded image ID: ${digestOf(second)}\n`,
  ]);
  assert.equal(stores.layers.list().length, 2);
  const moved = JSON.stringify([{ Config: "b", RepoTags: ["app:1"], Layers: ["l1"] }]);
  const { streams } = await load(
    stores,
    await tarOf([
      ["b", second],
      ["l1", one],
      ["manifest.json", moved],
    ]),
  );
  assert.match(streams[0] ?? "", /^The image app:1 already exists, renaming the old one with ID sha256:/);
  assert.deepEqual(stores.images.get(id).references, []);
});

const whole = [
  ["1/layer.tar", one],
  ["2/layer.tar", two],
] as const;
const refused: readonly (readonly [string, readonly (readonly [string, Content])[], RegExp, string])[] = [
  ["nothing at all", [], /does not contain a manifest\.json/, "invalid_argument"],
  ["no manifest", [["c.json", config]], /does not contain a manifest\.json/, "invalid_argument"],
  [
    "a null manifest",
    [["manifest.json", "null"]],
    /^invalid manifest, manifest cannot be null \(but can be \[\]\)$/,
    "invalid_argument",
  ],
  ["a manifest that is no JSON", [["manifest.json", "{"]], /invalid manifest: not JSON/, "invalid_argument"],
  [
    "a manifest of another shape",
    [["manifest.json", '[{"Config":1}]']],
    /invalid manifest: 0\.Config/,
    "invalid_argument",
  ],
  ["a missing config", [["manifest.json", manifest()], ...whole], /"c\.json" is missing/, "invalid_argument"],
  [
    "a missing layer",
    [
      ["manifest.json", manifest()],
      ["c.json", config],
      ["1/layer.tar", one],
    ],
    /"2\/layer\.tar" is missing/,
    "invalid_argument",
  ],
  [
    "a config that is no config",
    [["manifest.json", manifest()], ["c.json", "{}"], ...whole],
    /invalid image JSON, no RootFS key/,
    "invalid_argument",
  ],
  [
    "a null config",
    [["manifest.json", manifest()], ["c.json", "null"], ...whole],
    /invalid image JSON/,
    "invalid_argument",
  ],
  [
    "a config with an invalid digest",
    [["manifest.json", manifest()], ["c.json", '{"rootfs":{"type":"layers","diff_ids":["sha256:../../x"]}}'], ...whole],
    /invalid digest/,
    "invalid_argument",
  ],
  [
    "another number of layers",
    [["manifest.json", manifest({ Layers: ["1/layer.tar"] })], ["c.json", config], ...whole],
    /^invalid manifest, layers length mismatch: expected 1, got 2$/,
    "invalid_argument",
  ],
  [
    "layers in the wrong order",
    [["manifest.json", manifest({ Layers: ["2/layer.tar", "1/layer.tar"] })], ["c.json", config], ...whole],
    /^invalid diffID for layer 0: expected "sha256:[a-f0-9]{64}", got "sha256:[a-f0-9]{64}"$/,
    "data_loss",
  ],
  [
    "a second layer that was altered",
    [
      ["manifest.json", manifest()],
      ["c.json", config],
      ["1/layer.tar", one],
      ["2/layer.tar", one],
    ],
    /^invalid diffID for layer 1/,
    "data_loss",
  ],
  [
    "a layer that is no tar",
    [
      ["manifest.json", manifest()],
      ["c.json", config],
      ["1/layer.tar", "junk".repeat(1000)],
      ["2/layer.tar", two],
    ],
    /./,
    "invalid_argument",
  ],
  [
    "another operating system",
    [["manifest.json", manifest()], ["c.json", configOf([one, two], { os: "windows" })], ...whole],
    /^cannot load windows image on linux$/,
    "invalid_argument",
  ],
  [
    "a tag that is no reference",
    [["manifest.json", manifest({ RepoTags: ["Acme:1"] })], ["c.json", config], ...whole],
    /must be lowercase/,
    "invalid_argument",
  ],
  [
    "a tag without a tag",
    [["manifest.json", manifest({ RepoTags: ["acme"] })], ["c.json", config], ...whole],
    /^invalid tag "acme"$/,
    "invalid_argument",
  ],
  [
    "a name that leads out",
    [
      ["../escape", "x"],
      ["manifest.json", manifest()],
    ],
    /leads out of the archive/,
    "invalid_argument",
  ],
  [
    "a manifest that points outside",
    [["manifest.json", manifest({ Config: "../../etc/passwd" })]],
    /leads out of the archive/,
    "invalid_argument",
  ],
  [
    "a symlink that leads out",
    [
      ["1/layer.tar", { symlink: "../../../etc/passwd" }],
      ["manifest.json", manifest()],
    ],
    /leads out of the archive/,
    "invalid_argument",
  ],
  [
    "an absolute symlink",
    [["c.json", { symlink: "/etc/passwd" }], ["manifest.json", manifest()], ...whole],
    /"c\.json" is missing/,
    "invalid_argument",
  ],
  [
    "symlinks in a circle",
    [
      ["c.json", { symlink: "d" }],
      ["d", { symlink: "c.json" }],
      ["manifest.json", manifest()],
    ],
    /is a link that leads nowhere/,
    "invalid_argument",
  ],
  [
    "a config beyond the limit",
    [
      ["manifest.json", manifest()],
      ["c.json", `"${"x".repeat(9 << 20)}"`],
    ],
    /longer than 8388608 bytes/,
    "invalid_argument",
  ],
  [
    "a config that is not UTF-8",
    [["manifest.json", manifest()], ["c.json", Buffer.from([0xff, 0xfe])], ...whole],
    /is not UTF-8/,
    "invalid_argument",
  ],
];

test("archives that are not whole are refused in clear words, and leave nothing", async () => {
  await using stores = await openStores();
  for (const [name, members, message, code] of refused) {
    await assert.rejects(load(stores, await tarOf(members)), (error) => {
      assert.match(errorMessage(error), message, name);
      assert.equal(errorCode(error), code, `${name}: ${errorMessage(error)}`);
      return true;
    });
    assert.deepEqual([stores.images.list(), stores.layers.list(), await stores.staged()], [[], [], []], name);
    assert.deepEqual(stores.database.all("SELECT id FROM layer_layers"), [], name);
  }
});

test("bytes that are no archive, and archives that break off, are refused and leave nothing", async () => {
  await using stores = await openStores();
  const archive = await tarOf([
    ["2/layer.tar", two],
    ["1/layer.tar", one],
    ["c.json", config],
    ["manifest.json", manifest()],
  ]);
  for (const data of [
    Buffer.from("not a tar".repeat(500)),
    archive.subarray(0, 700),
    gzipSync(archive).subarray(0, 100),
  ])
    await assert.rejects(load(stores, data));
  assert.deepEqual([stores.images.list(), stores.layers.list(), await stores.staged()], [[], [], []]);
});

test("a load that is cancelled leaves nothing", async () => {
  await using stores = await openStores();
  const controller = new AbortController();
  async function* slow(): AsyncIterable<Uint8Array> {
    yield (
      await tarOf([
        ["manifest.json", manifest()],
        ["c.json", config],
        ["1/layer.tar", one],
      ])
    ).subarray(0, -1024);
    controller.abort();
    yield await tarOf([["2/layer.tar", two]]);
  }
  await assert.rejects(stores.transfer.load(slow(), () => undefined, controller.signal));
  assert.deepEqual([stores.images.list(), stores.layers.list(), await stores.staged()], [[], [], []]);
});
