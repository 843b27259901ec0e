import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { errorMessage } from "../base/errors.ts";
import { createPool } from "../host/worker-pool.ts";
import { openSecretReader, parseReference } from "./secret-reference.ts";

const secret = "hunter2-do-not-tell";

const pool = createPool();
after(() => pool[Symbol.asyncDispose]());

describe("a secret by reference", () => {
  test("is a path or a name", () => {
    assert.deepEqual(parseReference("password", "@/run/a b,c"), { kind: "path", path: "/run/a b,c" });
    assert.deepEqual(parseReference("password", "@nas.key"), { kind: "name", name: "nas.key" });
  });

  for (const value of [
    "",
    "@",
    secret,
    "@../x",
    "@a/b",
    "@.hidden",
    "@-x",
    "@/a\0b",
    "@/a\nb",
    "@/a/",
    `@/${"x".repeat(5000)}`,
  ])
    test(`${JSON.stringify(value.slice(0, 20))} is refused, and not repeated`, () => {
      assert.throws(
        () => parseReference("password", value),
        (error) => {
          assert.match(errorMessage(error), /option password/);
          return !errorMessage(error).includes(secret);
        },
      );
    });

  const refused: readonly [string, (path: string) => Promise<void> | void, RegExp][] = [
    ["missing", () => undefined, /is not there/],
    ["readable by the group", (path) => put(path, secret, 0o640), /is open to others: chmod 600/],
    ["readable by all", (path) => put(path, secret, 0o604), /is open to others: chmod 600/],
    ["with a NUL", (path) => put(path, `${secret}\0`, 0o600), /holds a NUL/],
    ["that is no text", (path) => put(path, Buffer.from([0xff, 0xfe, 0x41]), 0o600), /UTF-8/],
    ["that is empty", (path) => put(path, "\n", 0o600), /is empty/],
    ["that is too large", (path) => put(path, "x".repeat(65537), 0o600), /larger than 65536/],
    ["that is a folder", (path) => mkdir(path, { mode: 0o700 }), /no regular file/],
    ["that is a pipe", (path) => void execFileSync("mkfifo", ["-m", "600", path]), /no regular file/],
    ["behind a symbolic link", (path) => symlink("/etc/passwd", path), /symbolic link/],
  ];
  for (const [title, make, says] of refused)
    test(`a file ${title} is refused`, () =>
      withReader(async ({ root, read }) => {
        const path = join(root, "secrets", "one");
        await make(path);
        for (const value of ["@one", `@${path}`])
          await assert.rejects(read("password", value), (error) => {
            assert.match(errorMessage(error), says);
            assert.match(errorMessage(error), /which the option password refers to/);
            return !errorMessage(error).includes(secret);
          });
      }));

  test("one line end is cut off, and no more", () =>
    withReader(async ({ root, read }) => {
      const path = join(root, "secrets", "one");
      for (const [content, expected] of [
        [secret, secret],
        [`${secret}\n`, secret],
        [`${secret}\n\n`, `${secret}\n`],
        [` ${secret} \n`, ` ${secret} `],
      ] as const) {
        await put(path, content, 0o400);
        assert.equal(await read("password", "@one"), expected);
        assert.equal(await read("password", `@${path}`), expected);
      }
    }));

  test("what is no secret may be read by others, not written", () =>
    withReader(async ({ root, read }) => {
      const path = join(root, "known");
      await put(path, "a key", 0o644);
      assert.equal(await read("known_hosts", `@${path}`, "public"), "a key");
      await chmod(path, 0o664);
      await assert.rejects(read("known_hosts", `@${path}`, "public"), /may be written by others/);
    }));
});

async function put(path: string, content: string | Buffer, mode: number): Promise<void> {
  await rm(path, { force: true });
  await writeFile(path, content, { mode });
  await chmod(path, mode);
}

type Given = { readonly root: string; readonly read: ReturnType<typeof openSecretReader>["read"] };

async function withReader(work: (given: Given) => Promise<void>): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const root = await mkdtemp(join(tmpdir(), "secrets-"));
  stack.defer(() => rm(root, { recursive: true, force: true }));
  await mkdir(join(root, "secrets"), { mode: 0o700 });
  await work({ root, read: openSecretReader({ root, pool }).read });
}
