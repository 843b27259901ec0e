import assert from "node:assert/strict";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { openStores } from "../../test/support/stores.ts";
import { TarWriter } from "../archive/write-tar.ts";
import { digestOf } from "../base/digest.ts";
import { isError } from "../base/errors.ts";
import type { ImportOptions } from "./transfer.ts";

const chunks: Uint8Array[] = [];
const writer = new TarWriter(async (chunk) => void chunks.push(chunk));
await writer.add({ path: "file", type: "file", mode: 0o644 }, Buffer.from("content"));
await writer.finish();
const tar = Buffer.concat(chunks);

async function* stream(data: Uint8Array): AsyncIterable<Uint8Array> {
  yield data;
}

const options = (more: Partial<ImportOptions> = {}): ImportOptions => ({
  reference: undefined,
  message: "",
  changes: [],
  platform: undefined,
  ...more,
});

test("a tar becomes an image of one layer, as Docker writes it", async () => {
  await using stores = await openStores();
  const id = await stores.transfer.importImage(
    stream(gzipSync(tar)),
    options({ reference: "base", changes: ["CMD sh", "LABEL a=b"], message: "hello", platform: "linux/arm64/v8" }),
  );
  const { bytes, config, references, parent, local, size } = stores.images.get("base");
  assert.equal(digestOf(bytes), id);
  assert.deepEqual([references, parent, local, size], [["docker.io/library/base:latest"], undefined, false, 7]);
  assert.deepEqual([config.architecture, config.variant, config.os], ["arm64", "v8", "linux"]);
  assert.deepEqual(config.config?.Cmd, ["/bin/sh", "-c", "sh"]);
  assert.deepEqual(config.rootfs.diff_ids, [digestOf(tar)]);
  assert.deepEqual(config.history, [{ created: config.created, comment: "hello" }]);
  assert.deepEqual(
    stores.events.recent().map((event) => [event.action, event.attributes.name, event.attributes.a]),
    [
      ["tag", "base:latest", "b"],
      ["import", id, "b"],
    ],
  );
});

test("without a message or a name Docker's defaults hold", async () => {
  await using stores = await openStores();
  const id = await stores.transfer.importImage(stream(tar), options());
  assert.equal(stores.images.get(id).config.history?.[0]?.comment, "Imported from -");
  assert.deepEqual(stores.images.get(id).references, []);
});

test("what cannot be imported is refused, and nothing stays", async () => {
  await using stores = await openStores();
  const wrong: readonly (readonly [Partial<ImportOptions>, Uint8Array, RegExp])[] = [
    [{ reference: "Upper" }, tar, /must be lowercase/],
    [{ changes: ["RUN x"] }, tar, /RUN is not a valid change command/],
    [{ platform: "windows/amd64" }, tar, /operating system windows is not supported/],
    [{ platform: "li nux" }, tar, /invalid platform/],
    [{}, Buffer.from("this is no tar at all, but long enough".repeat(50)), /invalid tar/],
    [{}, tar.subarray(0, 515), /unexpected EOF/],
  ];
  for (const [more, data, message] of wrong)
    await assert.rejects(stores.transfer.importImage(stream(data), options(more)), (error) => {
      assert.ok(isError(error, "invalid_argument"), String(error));
      assert.match(error.message, message);
      return true;
    });
  assert.deepEqual([stores.images.list(), stores.layers.list()], [[], []]);
});
