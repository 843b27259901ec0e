import assert from "node:assert/strict";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { collect, scratch } from "../archive/tree.fixture.ts";
import { assembleTar } from "./tar-split.ts";

const raw = (text: string): object => ({ type: 2, payload: Buffer.from(text).toString("base64") });
const entry = (name: string, size: number, more: object = {}): object => ({
  type: 1,
  name,
  size,
  payload: "x",
  ...more,
});

/** A layer's folder with what `fill` puts there, and its tar-split. */
async function assemble(entries: readonly unknown[] | Buffer, fill: (folder: string) => void = () => undefined) {
  using directory = scratch();
  const files = directory.sub("files");
  mkdirSync(files);
  fill(files);
  const split = directory.sub("tar-split.json.gz");
  const bytes = Buffer.isBuffer(entries)
    ? entries
    : gzipSync(entries.map((one) => `${JSON.stringify(one)}\n`).join(""));
  if (bytes.length > 0) writeFileSync(split, bytes);
  return (await collect(assembleTar(split, files))).toString();
}

test("raw bytes and contents of files come in order, whatever their size", async () => {
  const large = "0123456789".repeat(70_000);
  const tar = await assemble(
    [raw("head"), entry("empty", 0), raw("+"), entry("a/large", large.length), raw("\0tail"), entry("./small", 5)],
    (folder) => {
      mkdirSync(`${folder}/a`);
      writeFileSync(`${folder}/a/large`, large);
      writeFileSync(`${folder}/small`, "small");
    },
  );
  assert.equal(tar, `head+${large}\0tailsmall`);
});

test("a name that is not UTF-8 comes from name_raw", async () => {
  const name = Buffer.from([0x66, 0xff, 0x6f]);
  const tar = await assemble([entry("f\ufffdo", 3, { name_raw: name.toString("base64") })], (folder) =>
    writeFileSync(Buffer.concat([Buffer.from(`${folder}/`), name]), "raw"),
  );
  assert.equal(tar, "raw");
});

test("a symlink of the layer is followed inside of it, and leads nowhere else", async () => {
  const inside = await assemble([entry("link/file", 2)], (folder) => {
    mkdirSync(`${folder}/real`);
    writeFileSync(`${folder}/real/file`, "ok");
    symlinkSync("/real", `${folder}/link`);
  });
  assert.equal(inside, "ok");
  for (const name of ["link/hostname", "../../../etc/hostname", "/etc/hostname"])
    await assert.rejects(
      assemble([entry(name, 1)], (folder) => symlinkSync("../../../../../../etc", `${folder}/link`)),
      { code: "data_loss", message: /cannot be opened \(ENOENT\)/ },
    );
  await assert.rejects(
    assemble([entry("passwd", 1)], (folder) => symlinkSync("/etc/passwd", `${folder}/passwd`)),
    /cannot be opened \(ELOOP\)/,
  );
});

const gz = (text: string): Buffer => gzipSync(text);
const refused: readonly (readonly [string, readonly unknown[] | Buffer, RegExp])[] = [
  ["a missing file", [entry("gone", 4)], /"gone" cannot be opened/],
  ["a file of another size", [entry("file", 5)], /"file" is no file of 5 bytes/],
  ["a directory where a file should be", [entry("folder", 4096)], /"folder" is no file/],
  ["no tar-split at all", Buffer.alloc(0), /tar-split.json.gz is missing/],
  ["what is no gzip", Buffer.from("plain"), /cannot be read \(Z_DATA_ERROR\)/],
  [
    "a gzip that is cut off",
    gz(JSON.stringify(raw("x".repeat(5000)))).subarray(0, 40),
    /cannot be read \(Z_BUF_ERROR\)/,
  ],
  ["a line that is not JSON", gz("{\n"), /a line is not JSON/],
  ["an entry of another type", [{ type: 3 }], /damaged: type/],
  ["a size that is no number", [{ type: 1, name: "file", size: "4" }], /damaged: size/],
];

for (const [what, entries, message] of refused)
  test(`${what} is data_loss that says so`, () =>
    assert.rejects(
      assemble(entries, (folder) => {
        writeFileSync(`${folder}/file`, "four");
        mkdirSync(`${folder}/folder`);
      }),
      { code: "data_loss", message },
    ));
