import assert from "node:assert/strict";
import { stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { volumeDriverSuite, withVolumeDriver } from "../conformance.ts";
import { openTmpfsDriver, parseOptions } from "./driver.ts";

const skip = process.getuid?.() === 0 ? false : "mounting needs root";

describe("tmpfs", { skip }, () => {
  volumeDriverSuite("tmpfs", openTmpfsDriver);

  test("a volume has its size, mode and owner, and is counted", () =>
    withVolumeDriver(openTmpfsDriver, async ({ driver }) => {
      const spec = { name: "v1", options: { size: "1m", mode: "1770", uid: "5", gid: "6" } };
      await driver.create(spec);
      const path = await driver.mount(spec, "a");
      const { mode, uid, gid } = await stat(path);
      assert.deepEqual([mode & 0o7777, uid, gid], [0o1770, 5, 6]);
      await assert.rejects(writeFile(join(path, "big"), Buffer.alloc(2 ** 21)), { code: "ENOSPC" });
      await writeFile(join(path, "big"), "12345");
      await driver.unmount(spec, "a");
      assert.equal(await driver.usage(spec), 5);
      await driver.remove(spec);
    }));
});

describe("options of tmpfs", () => {
  for (const options of [{}, { size: "100m" }, { size: "50%" }, { size: "100%" }, { mode: "0700", nr_inodes: "10" }])
    test(`${JSON.stringify(options)} are fine`, () => assert.equal(parseOptions(options).type, "tmpfs"));
  for (const [options, says] of [
    [{ size: "many" }, /size/],
    [{ size: "101%" }, /size/],
    [{ mode: "rwx" }, /invalid value of the option mode: "rwx"/],
    [{ uid: "root" }, /uid/],
    [{ device: "x" }, /invalid option: "device"; tmpfs has size, mode/],
    [{ uid: "1,suid" }, /uid/],
    [{ toString: "1" }, /invalid option/],
  ] as const)
    test(`${JSON.stringify(options)} are refused`, () =>
      assert.throws(() => parseOptions(options as Record<string, string>), {
        code: "invalid_argument",
        message: says,
      }));
});
