import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdir, mkdtemp, readdir, rename, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { makeSubvolumeTask } from "../../host/subvolume-task.ts";
import { volumeDriverSuite, withVolumeDriver } from "../conformance.ts";
import { openLocalDriver } from "../local/driver.ts";
import { btrfsPlace } from "./btrfs-root.fixture.ts";
import { openBtrfsDriver, parseOptions } from "./driver.ts";

const skip = process.getuid?.() === 0 ? false : "mounting needs root";

describe("btrfs", { skip }, () => {
  const place = btrfsPlace();
  volumeDriverSuite("btrfs", openBtrfsDriver, place);
  volumeDriverSuite("btrfs on a device", openBtrfsDriver, { options: () => ({ device: place.path() }) });
  volumeDriverSuite("local on btrfs", openLocalDriver, place);

  test("a volume is a subvolume; what a container made in it goes with it", () =>
    withVolumeDriver(
      openBtrfsDriver,
      async ({ root, driver }) => {
        const spec = { name: "v1", options: {} };
        await driver.create(spec);
        const path = await driver.mount(spec, "a");
        assert.equal((await stat(path)).ino, 256);
        await mkdir(join(path, "deep/er"), { recursive: true });
        makeSubvolumeTask({ path: join(path, "deep/er/nested") });
        await writeFile(join(path, "deep/er/nested/f"), "text");
        makeSubvolumeTask({ path: join(path, "deep/er/nested/inner") });
        await driver.unmount(spec, "a");
        // A snapshot of a subvolume would show nothing where another one stands: it is copied, and that is told.
        assert.equal(await driver.snapshots?.cost(spec), "reflink");
        let stills = 0;
        await driver.snapshots?.create(spec, "moment", { still: async () => void stills++ });
        assert.equal(stills, 1);
        await driver.snapshots?.create(spec, "loose");
        for (const snapshot of ["moment", "loose"]) {
          await driver.snapshots?.restore(spec, snapshot);
          assert.deepEqual(await readdir(join(path, "deep/er/nested")), ["f", "inner"]);
        }
        await driver.remove(spec);
        assert.deepEqual(await readdir(join(root, "volume-drivers/btrfs")), []);
        const left = execFileSync("btrfs", ["subvolume", "list", "-o", root], { encoding: "utf8" });
        assert.equal(left, "");
      },
      place,
    ));

  test("a local volume of no size keeps no subvolume that a container made in it", () =>
    withVolumeDriver(
      openLocalDriver,
      async ({ root, driver }) => {
        const spec = { name: "v1", options: {} };
        await driver.create(spec);
        makeSubvolumeTask({ path: join(root, "volumes/v1/_data/nested") });
        await mkdir(join(root, "volumes/v1/_data/nested/d/e"), { recursive: true });
        await writeFile(join(root, "volumes/v1/_data/nested/d/e/f"), "text");
        await driver.remove(spec);
        assert.deepEqual(await readdir(join(root, "volumes")), []);
      },
      place,
    ));

  test("snapshots cost nothing here, and share what they hold", () =>
    withVolumeDriver(
      openBtrfsDriver,
      async ({ driver }) => {
        const spec = { name: "v1", options: {} };
        await driver.create(spec);
        assert.equal(await driver.snapshots?.cost(spec), "constant");
      },
      place,
    ));

  test("size grows while the volume is used", () =>
    withVolumeDriver(
      openBtrfsDriver,
      async ({ driver }) => {
        const [small, large] = [{ size: "16m" }, { size: "64m" }].map((options) => ({ name: "v1", options })) as [
          { name: string; options: { size: string } },
          { name: string; options: { size: string } },
        ];
        await driver.create(small);
        const path = await driver.mount(small, "a");
        await assert.rejects(writeFile(join(path, "f"), Buffer.alloc(32 << 20)), /EDQUOT|-122|quota/i);
        await driver.update?.(small, large.options);
        await writeFile(join(path, "f"), Buffer.alloc(32 << 20));
        await driver.unmount(small, "a");
      },
      place,
    ));

  test("what a crash left elsewhere is found and swept", () =>
    withVolumeDriver(openBtrfsDriver, async ({ root, driver, reopen }) => {
      const device = await mkdtemp(join(place.path(), "device-"));
      await driver.create({ name: "v1", options: { device } });
      const [home = ""] = await readdir(device);
      const half = join(root, "volume-drivers/btrfs/.new-aa");
      await mkdir(join(half, "_data"), { recursive: true });
      await mkdir(join(device, "half/.snapshots/.new-bb"), { recursive: true });
      makeSubvolumeTask({ path: join(device, "half/_data") });
      await writeFile(join(half, "place"), join(device, "half"));
      makeSubvolumeTask({ path: join(device, home, ".snapshots-cc") });
      await mkdir(join(device, home, ".snapshots/.new-dd"), { recursive: true });
      makeSubvolumeTask({ path: join(device, home, ".snapshots/.new-dd/data") });
      await reopen();
      assert.deepEqual(await readdir(device), [home]);
      assert.deepEqual(await readdir(join(device, home, ".snapshots")), []);
      assert.deepEqual(await readdir(join(root, "volume-drivers/btrfs")), ["v1"]);
      await rename(device, `${device}-away`);
      await assert.rejects(driver.remove({ name: "v1", options: { device } }), { code: "unavailable" });
      assert.deepEqual(await (await reopen()).list(), []);
      await rename(`${device}-away`, device);
      await reopen();
      assert.deepEqual(
        await readdir(device),
        [],
        "what was removed while its disk was away is gone with the next start",
      );
      assert.deepEqual(await readdir(join(root, "volume-drivers/btrfs")), []);
    }));
});

describe("options of btrfs", () => {
  test("a data root elsewhere is told with what to do", () =>
    withVolumeDriver(openBtrfsDriver, async ({ root, driver }) => {
      await assert.rejects(driver.create({ name: "v1", options: {} }), {
        code: "unsupported",
        message: /the data root \(.*\) is on \w+; the btrfs driver needs it on btrfs, or a directory on btrfs named by/,
      });
      for (const [device, code] of [
        [tmpdir(), "unsupported"],
        ["/no/such/place", "invalid_argument"],
        ["/etc/passwd", "invalid_argument"],
      ] as const)
        await assert.rejects(driver.create({ name: "v1", options: { device } }), { code });
      assert.deepEqual(await readdir(join(root, "volume-drivers/btrfs")), []);
    }));

  for (const options of [{ device: "relative" }, { device: "" }, { device: "/a\0b" }, { size: "x" }, { path: "/x" }])
    test(`${JSON.stringify(options)} are refused`, () =>
      assert.throws(() => parseOptions(options as Record<string, string>), { code: "invalid_argument" }));
});
