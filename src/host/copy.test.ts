import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { closeSync, fstatSync, ftruncateSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { cloneFile, copyByHand, copyFileData } from "./copy.ts";

let directory = "";
before(() => {
  directory = mkdtempSync(join(tmpdir(), "strata-copy-"));
});
after(() => rmSync(directory, { recursive: true }));

type Files = { readonly source: number; readonly target: number; readonly bytes: () => Buffer };

function withFiles(folder: string, use: (files: Files) => void): void {
  const paths = [join(folder, "source"), join(folder, "target")] as const;
  const [source, target] = [openSync(paths[0], "w+"), openSync(paths[1], "w+")];
  try {
    use({ source, target, bytes: () => readFileSync(paths[1]) });
  } finally {
    closeSync(source);
    closeSync(target);
  }
}

for (const size of [0, 1, 4096, 3_000_001])
  test(`${size} bytes arrive whole, over whatever was there`, () =>
    withFiles(directory, ({ source, target, bytes }) => {
      const data = randomBytes(size);
      writeSync(source, data);
      writeSync(target, randomBytes(5_000_000));
      copyFileData(source, target, size);
      assert.ok(bytes().equals(data));
      ftruncateSync(target, 0);
      copyByHand(source, target, { start: 0, end: size });
      assert.ok(bytes().equals(data));
    }));

test("only the first bytes are copied when fewer are asked for", () =>
  withFiles(directory, ({ source, target, bytes }) => {
    writeSync(source, "0123456789");
    copyFileData(source, target, 4);
    assert.equal(bytes().toString(), "0123");
  }));

test("holes stay holes", () =>
  withFiles(directory, ({ source, target, bytes }) => {
    const size = 64 * 1024 * 1024;
    ftruncateSync(source, size);
    writeSync(source, "middle", size / 2);
    copyFileData(source, target, size);
    assert.equal(fstatSync(target).size, size);
    assert.ok(fstatSync(target).blocks * 512 < 1024 * 1024);
    assert.equal(bytes().toString("utf8", size / 2, size / 2 + 6), "middle");
  }));

test("a source that became shorter is an error", () =>
  withFiles(directory, ({ source, target }) => {
    writeSync(source, "short");
    assert.throws(() => copyFileData(source, target, 100), { code: "EIO" });
  }));

test("a copy into another filesystem works where the kernel cannot share", () => {
  const other = mkdtempSync("/dev/shm/strata-copy-");
  const source = openSync(join(directory, "across"), "w+");
  const target = openSync(join(other, "target"), "w+");
  try {
    const data = randomBytes(200_000);
    writeSync(source, data);
    assert.equal(cloneFile(source, target), false);
    copyFileData(source, target, data.length);
    assert.ok(readFileSync(join(other, "target")).equals(data));
  } finally {
    closeSync(source);
    closeSync(target);
    rmSync(other, { recursive: true });
  }
});
