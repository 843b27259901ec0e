import assert from "node:assert/strict";
import { test } from "node:test";
import { isError } from "../base/errors.ts";
import { type TarEntry, TarReader } from "./read-tar.ts";
import { collect, type RawEntry, rawEntry, rawHeader, rawTar, stream, withChecksum } from "./tree.fixture.ts";

type ReadEntry = TarEntry & { content: string };
type Way = { readonly size?: number | undefined; readonly here: boolean };

/** The entries, and every byte in its order. */
async function readBy(tar: Buffer, { size, here }: Way): Promise<{ entries: ReadEntry[]; all: string }> {
  const entries: ReadEntry[] = [];
  const all: Buffer[] = [];
  const reader = new TarReader(stream(tar, size), { onRaw: (bytes) => void all.push(Buffer.from(bytes)) });
  const next = async (): Promise<TarEntry | undefined> => (here ? reader.nextHere() : undefined) ?? reader.next();
  for (let entry = await next(); entry !== undefined; entry = await next()) {
    const content: Buffer[] = [];
    const whole = here ? reader.readHere() : undefined;
    if (whole !== undefined) content.push(Buffer.from(whole));
    else
      for (let piece = await reader.read(); piece !== undefined; piece = await reader.read())
        content.push(Buffer.from(piece));
    all.push(...content);
    entries.push({ ...entry, content: Buffer.concat(content).toString("latin1") });
  }
  return { entries, all: Buffer.concat(all).toString("latin1") };
}

/** With a promise for everything, and without one for what is here: both are told the same, and that all is wrong. */
async function read(tar: Buffer, size?: number): Promise<ReadEntry[]> {
  const ways = [false, true].map((here) => readBy(tar, { size, here }));
  const [slow, quick] = await Promise.allSettled(ways);
  assert.deepEqual(quick, slow);
  if (slow?.status === "fulfilled") return slow.value.entries;
  throw slow?.reason;
}

const one = async (entry: RawEntry): Promise<TarEntry & { content: string }> => {
  const [first] = await read(rawTar([entry]));
  assert.ok(first);
  return first;
};

const base256 = (value: bigint, length: number): string => {
  const bytes = Buffer.alloc(length);
  let rest = BigInt.asUintN(length * 8, value);
  for (let at = length - 1; at >= 0; at--, rest >>= 8n) bytes[at] = Number(rest & 0xffn);
  bytes[0] = (bytes[0] ?? 0) | 0x80;
  return bytes.toString("latin1");
};

const headers: readonly (readonly [string, RawEntry, Partial<TarEntry>])[] = [
  ["a plain file", { path: "a", content: "hi" }, { path: "a", type: "file", size: 2, mode: 0o644 }],
  ["a v7 file", { path: "a", type: "\0", magic: "\0" }, { type: "file" }],
  ["a v7 directory, by its slash", { path: "a/", type: "\0", magic: "\0" }, { type: "directory" }],
  ["a contiguous file as a file", { path: "a", type: "7", content: "x" }, { type: "file", size: 1 }],
  ["a hard link", { path: "a", type: "1", link: "b" }, { type: "link", link: "b" }],
  ["a hard link whose size is a habit", { path: "a", type: "1", link: "b", size: "00000000777" }, { size: 0 }],
  ["a symlink", { path: "a", type: "2", link: "/b" }, { type: "symlink", link: "/b" }],
  ["a character device", { path: "a", type: "3", major: 5, minor: 1 }, { type: "char", major: 5, minor: 1 }],
  ["a block device", { path: "a", type: "4", major: 8, minor: 17 }, { type: "block", major: 8, minor: 17 }],
  ["a directory", { path: "a/", type: "5" }, { type: "directory", path: "a/" }],
  ["a fifo", { path: "a", type: "6" }, { type: "fifo" }],
  ["a ustar prefix", { path: "b", prefix: "x/y" }, { path: "x/y/b" }],
  ["no prefix in a GNU header with times", { path: "b", magic: "ustar  \0", prefix: "14000000000" }, { path: "b" }],
  [
    "a ustar prefix under a GNU magic (moby TestUntarUstarGnuConflict)",
    { path: "b", magic: "ustar  \0", prefix: "some/dir" },
    { path: "some/dir/b" },
  ],
  ["a name that is not UTF-8", { path: "caf\xe9" }, { path: "caf\xe9" }],
  ["setuid and type bits in the mode", { path: "a", mode: 0o104755 }, { mode: 0o4755 }],
  ["PAX path over the header", { path: "a", pax: { path: "long" } }, { path: "long" }],
  ["an empty PAX path as none", { path: "a", pax: { path: "" } }, { path: "a" }],
  ["a PAX link path", { path: "a", type: "2", link: "x", pax: { linkpath: "y=z" } }, { link: "y=z" }],
  ["PAX owners", { path: "a", pax: { uid: "4000000000", gid: "3" } }, { uid: 4_000_000_000, gid: 3 }],
  ["PAX time to the nanosecond", { path: "a", pax: { mtime: "12.3456789019" } }, { mtime: 12_345_678_901n }],
  ["PAX time before the epoch", { path: "a", pax: { mtime: "-1.5" } }, { mtime: -1_500_000_000n }],
  ["header time", { path: "a", mtime: 7 }, { mtime: 7_000_000_000n }],
];

for (const [what, entry, expected] of headers)
  test(`a tar header with ${what} is read`, async () => {
    const found = await one(entry);
    for (const [key, value] of Object.entries(expected)) assert.deepEqual(found[key as keyof TarEntry], value, key);
  });

test("attributes come from SCHILY.xattr records and other vendors' are left alone", async () => {
  const { xattrs } = await one({
    path: "a",
    pax: {
      "SCHILY.xattr.user.k": "v\xff=\0",
      "LIBARCHIVE.xattr.user.k": "AAAA",
      "SCHILY.xattr.security.capability": "c",
    },
  });
  assert.deepEqual([...xattrs.keys()], ["user.k", "security.capability"]);
  assert.deepEqual(xattrs.get("user.k"), Buffer.from("v\xff=\0", "latin1"));
});

test("GNU long names and links win over the header, up to their NUL", async () => {
  const name = `${"d/".repeat(80)}file`;
  const entries = [
    { path: "././@LongLink", type: "L", content: `${name}\0junk` },
    { path: "././@LongLink", type: "K", content: `${name}x\0` },
    { path: "short", type: "2", link: "short" },
    { path: "next" },
  ];
  const found = await read(rawTar(entries));
  assert.deepEqual(
    found.map(({ path, link }) => [path, link]),
    [
      [name, `${name}x`],
      ["next", ""],
    ],
  );
});

test("a global PAX header changes nothing (moby TestTypeXGlobalHeader)", async () => {
  const entries = [
    { path: "g", type: "g", content: "19 path=elsewhere.\n" },
    { path: "a", content: "x" },
  ];
  assert.deepEqual(
    (await read(rawTar(entries))).map(({ path }) => path),
    ["a"],
  );
});

test("sizes over 8 GiB are read from base 256 and from PAX", async () => {
  const size = 9n * 1024n ** 3n;
  for (const entry of [
    { path: "a", size: base256(size, 12) },
    { path: "a", pax: { size: String(size) } },
  ]) {
    const reader = new TarReader(stream(rawEntry(entry)));
    assert.equal((await reader.next())?.size, Number(size));
  }
});

test("content is the same however the input is cut", async () => {
  const entries = [
    { path: "a", content: "x".repeat(3000) },
    { path: "b", pax: { path: "c".repeat(300) }, content: "yz" },
  ];
  const whole = await read(rawTar(entries));
  for (const size of [1, 7, 511, 512, 513, 4096]) assert.deepEqual(await read(rawTar(entries), size), whole);
});

test("raw bytes and content together are the archive, trailing bytes too", async () => {
  const tar = rawTar(
    [
      { path: "a", content: "abc" },
      { path: "b", pax: { mtime: "1.5" }, content: "x".repeat(1000) },
    ],
    Buffer.from(`${"\0".repeat(1024)}trailing`),
  );
  const seen: Buffer[] = [];
  const chunks: Buffer[] = [];
  const reader = new TarReader(stream(tar, 100), {
    onRaw: (bytes) => void seen.push(Buffer.from(bytes)),
    onChunk: (chunk) => void chunks.push(Buffer.from(chunk)),
  });
  for (let entry = await reader.next(); entry !== undefined; entry = await reader.next())
    if (entry.path === "a")
      for (let piece = await reader.read(); piece !== undefined; piece = await reader.read())
        seen.push(Buffer.from(piece));
  assert.deepEqual(Buffer.concat(seen), tar);
  assert.deepEqual(Buffer.concat(chunks), tar);
});

test("an archive may end without its zero blocks, after one, and without padding", async () => {
  const entry = rawEntry({ path: "a", content: "abc" });
  for (const tar of [entry, Buffer.concat([entry, Buffer.alloc(512)]), entry.subarray(0, 515), Buffer.alloc(0)])
    assert.equal((await read(tar)).length, tar.length === 0 ? 0 : 1);
});

const big = (length: number): string => "x".repeat(length);
const refused: readonly (readonly [string, Buffer, "invalid_argument" | "unsupported", RegExp])[] = [
  ["garbage", Buffer.from(big(600)), "invalid_argument", /offset 0 is no header/],
  [
    "a wrong checksum",
    Buffer.concat([rawEntry({ path: "a" }), flip(rawHeader({ path: "b" }))]),
    "invalid_argument",
    /offset 512/,
  ],
  ["a truncated header", rawHeader({ path: "a" }).subarray(0, 300), "invalid_argument", /unexpected EOF/],
  [
    "truncated content",
    rawEntry({ path: "abc", content: big(900) }).subarray(0, 800),
    "invalid_argument",
    /EOF in "abc"/,
  ],
  [
    "a truncated extended header",
    rawEntry({ type: "x", content: big(900) }).subarray(0, 800),
    "invalid_argument",
    /EOF/,
  ],
  [
    "a header after a zero block",
    Buffer.concat([Buffer.alloc(512), rawTar([{ path: "a" }])]),
    "invalid_argument",
    /zero block/,
  ],
  ["a negative size", rawEntry({ path: "a", size: base256(-1n, 12) }), "invalid_argument", /negative size/],
  ["a negative PAX size", rawTar([{ path: "a", pax: { size: "-1" } }]), "invalid_argument", /negative size/],
  [
    "a size beyond counting",
    rawEntry({ path: "a", size: base256(2n ** 70n, 12) }),
    "invalid_argument",
    /broken number/,
  ],
  ["a size that is no number", rawEntry({ path: "a", size: "12x45" }), "invalid_argument", /broken number/],
  ["a PAX size that is no number", rawTar([{ path: "a", pax: { size: "1e3" } }]), "invalid_argument", /size "1e3"/],
  ["an owner of -1", rawTar([{ path: "a", pax: { uid: "4294967295" } }]), "invalid_argument", /owner/],
  [
    "a giant PAX header (CVE-2022-2879)",
    rawHeader({ type: "x", size: "77777777777" }),
    "invalid_argument",
    /limit 1 MiB/,
  ],
  ["a giant long name", rawHeader({ type: "L", size: "77777777777" }), "invalid_argument", /limit 1 MiB/],
  ["a broken PAX record", rawTar([{ type: "x", content: "99 path=a\n" }]), "invalid_argument", /broken extended/],
  ["a PAX record of length 0", rawTar([{ type: "x", content: "0 path=a\n" }]), "invalid_argument", /broken extended/],
  ["a NUL in a PAX path", rawTar([{ path: "a", pax: { path: "a\0b" } }]), "invalid_argument", /NUL/],
  ["a GNU sparse entry", rawTar([{ path: "a", type: "S" }]), "unsupported", /sparse/],
  [
    "a PAX sparse entry (CVE-2025-58183)",
    rawTar([{ path: "a", pax: { "GNU.sparse.major": "1" } }]),
    "unsupported",
    /sparse/,
  ],
  ["an unknown type", rawTar([{ path: "a", type: "Q" }]), "unsupported", /unknown tar type "Q"/],
];

function flip(block: Buffer): Buffer {
  block[0] = (block[0] ?? 0) ^ 1;
  return block;
}

for (const [what, tar, code, message] of refused)
  test(`a tar with ${what} is refused`, async () => {
    await assert.rejects(read(tar), (error) => isError(error, code) && message.test(error.message));
  });

test("a checksum over signed bytes is accepted, as old programs wrote it", async () => {
  const block = rawHeader({ path: "\xe9\xe8" });
  let sum = 0;
  withChecksum(block).forEach((byte, at) => {
    sum += at >= 148 && at < 156 ? 0x20 : (byte << 24) >> 24;
  });
  block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  assert.equal((await read(block))[0]?.path, "\xe9\xe8");
});

test("closing gives the input up", async () => {
  let closed = false;
  async function* endless(): AsyncGenerator<Uint8Array> {
    try {
      for (;;) yield rawEntry({ path: "a" });
    } finally {
      closed = true;
    }
  }
  const reader = new TarReader(endless());
  await reader.next();
  await reader.close();
  assert.equal(closed, true);
  assert.equal(await reader.next(), undefined);
  assert.equal((await collect(stream(Buffer.alloc(3)))).length, 3);
});
