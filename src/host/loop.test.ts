import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { makeLoopFilesystem } from "./loop.ts";
import { isMountPoint, mountTable } from "./mount.ts";

const skip = process.getuid?.() === 0 && existsSync("/dev/loop-control") ? false : "needs root and loop devices";
let directory = "";
before(() => {
  directory = mkdtempSync(join(tmpdir(), "strata-loop-"));
});
after(() => rmSync(directory, { recursive: true }));

/** The image behind a device; undefined when it is free. */
function backing(device: string): string | undefined {
  const path = `/sys/block/${device.slice(5)}/loop/backing_file`;
  return existsSync(path) ? readFileSync(path, "utf8").trim() : undefined;
}

for (const type of ["ext4", "xfs", "btrfs"] as const)
  test(`a ${type} filesystem is made, has its size, and gives everything back`, { skip }, async () => {
    const size = 320 * 1024 * 1024;
    let used: { readonly path: string; readonly device: string };
    {
      await using filesystem = await makeLoopFilesystem({ type, size, directory });
      used = filesystem;
      assert.equal(mountTable().findLast(({ target }) => target === filesystem.path)?.type, type);
      assert.ok(backing(filesystem.device)?.startsWith(directory));
      const { blocks, bsize } = statfsSync(filesystem.path);
      assert.ok(blocks * bsize > size / 2 && blocks * bsize <= size);
      writeFileSync(join(filesystem.path, "file"), "data");
    }
    assert.ok(!isMountPoint(used.path));
    assert.ok(!backing(used.device)?.startsWith(directory));
    assert.deepEqual(readdirSync(directory), []);
  });

test("a filesystem that cannot be made leaves nothing, and the tool's words are said", { skip }, async () => {
  const tooSmall = makeLoopFilesystem({ type: "xfs", size: 1024 * 1024, directory });
  await assert.rejects(tooSmall, /mkfs\.xfs failed on .*: \S/);
  const options = ["no-such-option"];
  await assert.rejects(
    makeLoopFilesystem({ type: "ext4", size: 16 * 1024 * 1024, directory, options }),
    /cannot mount ext4/,
  );
  assert.deepEqual(readdirSync(directory), []);
});
