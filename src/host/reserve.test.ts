import assert from "node:assert/strict";
import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { command, scratchFolder, succeed } from "../../test/support/engine.ts";
import { makeLoopFilesystem } from "./loop.ts";
import { Reserve, reserveFor } from "./reserve.ts";

const mebibyte = 1 << 20;

test("a file can grow by what was reserved for it on a full disk, and the reserve makes way when there is too little room", async () => {
  using folder = scratchFolder();
  await using disk = await makeLoopFilesystem({ type: "ext4", size: 128 * mebibyte, directory: folder.path });
  const [journal, other, hog] = ["journal", "other", "hog"].map((name) => join(disk.path, name));
  assert.ok(journal !== undefined && other !== undefined && hog !== undefined);
  for (const path of [journal, other]) writeFileSync(path, "begun");
  assert.equal(await reserveFor(journal, mebibyte), true);
  assert.equal(readFileSync(journal, "utf8"), "begun");
  assert.ok(statSync(journal).blocks * 512 >= mebibyte);
  assert.equal(await reserveFor(join(disk.path, "missing"), mebibyte), false);
  const reserve = new Reserve(join(disk.path, "reserve"));
  await reserve.open();
  await reserve.fill();
  assert.ok(statSync(join(disk.path, "reserve")).blocks * 512 >= 8 * mebibyte);
  await reserve.open();
  assert.ok(existsSync(join(disk.path, "reserve")), "with room there is, it stays");
  await command("sh", ["-c", `cat /dev/zero >${hog}`]);
  const append = (path: string): Promise<string> => succeed("sh", ["-c", `head -c 900000 /dev/zero >>${path}`]);
  await append(journal);
  await assert.rejects(append(other), /No space/);
  await reserve.open();
  await append(other);
  await reserve.fill();
  assert.ok(!existsSync(join(disk.path, "reserve")), "there is no room for it yet");
  rmSync(hog);
  await reserve.fill();
  assert.ok(existsSync(join(disk.path, "reserve")));
});
