import assert from "node:assert/strict";
import { mkdirSync, statfsSync, statSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { scratchHome } from "../storage-driver/scratch-home.ts";
import { mountAll, unmountAll } from "./mount.ts";
import { imageStep, makeImage, smallestImage } from "./size-image.ts";

const mebibyte = 1 << 20;

test("an image of any size shows that size, takes little of the disk, and has a journal", async () => {
  await using scratch = await scratchHome();
  const target = join(scratch.path, "view");
  mkdirSync(target);
  for (const size of [smallestImage, 10 * mebibyte + 1, 255 * mebibyte, 300 * mebibyte, 3000 * mebibyte, 2 ** 40]) {
    const file = join(scratch.path, `image-${size}`);
    await makeImage(file, { size, fill: () => undefined });
    mountAll([imageStep(file)], target);
    const { blocks, bfree, bsize } = statfsSync(target);
    unmountAll(target);
    const shown = (blocks * bsize) / size;
    assert.ok(shown > 0.998 && shown < 1.01, `${size} shows ${blocks * bsize}`);
    assert.ok(bfree * bsize > size * 0.98, `${size} has ${bfree * bsize} free`);
    const disk = statSync(file).blocks * 512;
    assert.ok(disk < mebibyte + size / 10_000, `${size} takes ${disk}`);
    // s_feature_compat of the superblock: COMPAT_HAS_JOURNAL.
    await using image = await open(file);
    const { buffer } = await image.read(Buffer.alloc(4), 0, 4, 1024 + 0x5c);
    assert.equal(buffer.readUInt32LE() & 4, 4, `${size} has no journal`);
  }
});
