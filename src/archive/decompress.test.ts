import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { isError } from "../base/errors.ts";
import { decompress } from "./decompress.ts";
import { collect, stream } from "./tree.fixture.ts";

const text = Buffer.from("some text that repeats itself, some text that repeats itself\n".repeat(5000));
const run = (program: string, args: readonly string[] = ["-c"]): Buffer =>
  execFileSync(program, args, { input: text, maxBuffer: 1e8 });

const formats: readonly (readonly [string, Buffer, Buffer])[] = [
  ["gzip", gzipSync(text), text],
  [
    "gzip of several members",
    Buffer.concat([gzipSync(text), gzipSync("tail")]),
    Buffer.concat([text, Buffer.from("tail")]),
  ],
  ["gzip by gzip(1)", run("gzip"), text],
  ["zstd", zstdCompressSync(text), text],
  [
    "zstd of several frames",
    Buffer.concat([zstdCompressSync(text), zstdCompressSync("tail")]),
    Buffer.concat([text, Buffer.from("tail")]),
  ],
  ["zstd by zstd(1)", run("zstd"), text],
  ["bzip2", run("bzip2"), text],
  ["xz", run("xz"), text],
  ["xz of several streams", Buffer.concat([run("xz"), run("xz")]), Buffer.concat([text, text])],
  ["nothing compressed", text, text],
  ["three bytes", Buffer.from("abc"), Buffer.from("abc")],
  ["nothing at all", Buffer.alloc(0), Buffer.alloc(0)],
];

for (const [what, data, expected] of formats)
  for (const cut of [3, 65536])
    test(`${what} comes out plain, in pieces of ${cut}`, async () => {
      assert.ok((await collect(decompress(stream(data, cut)))).equals(expected));
    });

const broken = (data: Buffer): Buffer =>
  Buffer.concat([data.subarray(0, 12), Buffer.alloc(200, 0x55), data.subarray(212)]);
for (const [what, data] of [
  ["gzip", gzipSync(text)],
  ["zstd", zstdCompressSync(text)],
  ["bzip2", run("bzip2")],
  ["xz", run("xz")],
] as const) {
  test(`broken ${what} data is refused`, async () => {
    await assert.rejects(collect(decompress(stream(broken(data)))), (error) => isError(error, "invalid_argument"));
  });
  test(`${what} data that ends early is refused`, async () => {
    await assert.rejects(collect(decompress(stream(data.subarray(0, data.length - 5)))), (error) =>
      isError(error, "invalid_argument"),
    );
  });
  test(`a failure of the source of ${what} data stays what it was`, async () => {
    async function* failing(): AsyncGenerator<Uint8Array> {
      yield data.subarray(0, 20);
      throw new Error("the network is gone");
    }
    await assert.rejects(collect(decompress(failing())), /the network is gone/);
  });
  test(`a reader of ${what} data that stops early stops the source`, async () => {
    let closed = false;
    async function* endless(): AsyncGenerator<Uint8Array> {
      try {
        for (;;) yield data;
      } finally {
        closed = true;
      }
    }
    for await (const piece of decompress(endless())) if (piece.length > 0) break;
    for (let tries = 0; tries < 200 && !closed; tries++) await new Promise((resolve) => setTimeout(resolve, 5));
    assert.equal(closed, true);
  });
}

test("a gzip bomb stays bounded in memory (CVE-2017-14992)", async () => {
  const bomb = gzipSync(Buffer.alloc(64 * 1024 * 1024));
  const many = Buffer.concat(Array.from({ length: 16 }, () => bomb));
  const before = process.memoryUsage().rss;
  let highest = 0;
  let length = 0;
  for await (const piece of decompress(stream(many))) {
    length += piece.length;
    if (length % (32 * 1024 * 1024) < piece.length) {
      await new Promise((resolve) => setImmediate(resolve));
      highest = Math.max(highest, process.memoryUsage().rss);
    }
  }
  assert.equal(length, 1024 ** 3);
  assert.ok(highest - before < 256 * 1024 * 1024, `grew by ${Math.round((highest - before) / 1e6)} MB`);
});
