/** Volumes with options: what they name is mounted with the first use, goes with the last, and is found after a restart. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdir, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { makeLoopFilesystem } from "../../host/loop.ts";
import { isMountPoint } from "../../host/mount.ts";
import { withVolumeDriver } from "../conformance.ts";
import { withoutSecrets } from "../secrets.ts";
import { openLocalDriver } from "./driver.ts";

const skip = process.getuid?.() === 0 ? false : "mounting needs root";
const tmpfs = (o: string) => ({ name: "v1", options: { type: "tmpfs", device: "tmpfs", o } });

describe("local volumes with options", { skip }, () => {
  test("a tmpfs is there from the first use to the last, with its options", () =>
    withVolumeDriver(openLocalDriver, async ({ root, driver }) => {
      const spec = tmpfs("size=1m,uid=1000,mode=0750,noexec");
      await driver.create(spec);
      const path = join(root, "volumes/v1/_data");
      assert.ok(!isMountPoint(path), "Docker mounts with the first use, not before");
      assert.equal(await driver.mount(spec, "a"), path);
      await driver.mount(spec, "b");
      const { uid, mode } = await stat(path);
      assert.deepEqual([uid, mode & 0o777], [1000, 0o750]);
      await assert.rejects(writeFile(join(path, "big"), Buffer.alloc(2 ** 21)), { code: "ENOSPC" });
      await driver.unmount(spec, "a");
      assert.ok(isMountPoint(path));
      await driver.unmount(spec, "b");
      assert.ok(!isMountPoint(path));
      assert.deepEqual(await readdir(path), []);
      assert.deepEqual(JSON.parse(await readFile(join(root, "volumes/v1/opts.json"), "utf8")), {
        MountType: "tmpfs",
        MountOpts: "size=1m,uid=1000,mode=0750,noexec",
        MountDevice: "tmpfs",
        Quota: { Size: 0 },
      });
    }));

  test("a directory of the host is bound, and outlives the volume", () =>
    withVolumeDriver(openLocalDriver, async ({ root, driver }) => {
      const host = join(root, "host");
      await mkdir(host);
      await writeFile(join(host, "f"), "kept");
      const spec = { name: "v1", options: { type: "none", device: host, o: "bind,ro" } };
      await driver.create(spec);
      const path = await driver.mount(spec, "a");
      assert.equal(await readFile(join(path, "f"), "utf8"), "kept");
      await assert.rejects(writeFile(join(path, "g"), ""), { code: "EROFS" });
      assert.equal(await driver.usage(spec), undefined);
      await assert.rejects(driver.remove(spec), { code: "conflict" });
      await driver.unmount(spec, "a");
      await driver.remove(spec);
      assert.deepEqual(await readdir(host), ["f"]);
      assert.deepEqual(await readdir(join(root, "volumes")), []);
    }));

  test("a disk is mounted by its type, and a volume that is still mounted from an earlier life loses nothing", () =>
    withVolumeDriver(openLocalDriver, async ({ root, driver, reopen }) => {
      await using disk = await makeLoopFilesystem({ type: "ext4", size: 32 * 2 ** 20, directory: root });
      await writeFile(join(disk.path, "f"), "kept");
      const device = execFileSync("findmnt", ["-no", "SOURCE", disk.path], { encoding: "utf8" }).trim();
      const spec = { name: "v1", options: { type: "ext4", device } };
      await driver.create(spec);
      await driver.mount(spec, "a");
      const again = await reopen();
      assert.deepEqual(await again.list(), ["v1"]);
      const path = await again.mount(spec, "a");
      assert.equal(await readFile(join(path, "f"), "utf8"), "kept");
      await again.unmount(spec, "a");
      assert.ok(!isMountPoint(path), "mounted once, whoever asked");
      const third = await reopen();
      await third.mount(spec, "b");
      await third.settle?.();
      assert.ok(isMountPoint(path), "somebody uses it");
      await (await reopen()).settle?.();
      assert.ok(!isMountPoint(path), "its users are gone");
      await third.mount(spec, "c");
      const fourth = await reopen();
      await fourth.remove(spec);
      assert.equal(await readFile(join(disk.path, "f"), "utf8"), "kept");
    }));

  for (const [name, options, says] of [
    ["a device that is not there", { type: "ext4", device: "/nonexistent", o: "ro" }, /: no such file or directory$/],
    [
      "a bind of nothing",
      { type: "none", device: "/nonexistent", o: "bind" },
      /, flags: 0x1000: no such file or directory$/,
    ],
    ["a type that no kernel has", { type: "nosuchfs", device: "none" }, /: no such device$/],
    [
      "an option that tmpfs does not know",
      { type: "tmpfs", device: "tmpfs", o: "size=1m,odd=1" },
      /, data: size=1m,odd=1: invalid argument$/,
    ],
    [
      "a password",
      { type: "tmpfs", device: "tmpfs", o: "password=hunter2,ro" },
      /, flags: 0x1, data: password=\*{8}: invalid/,
    ],
  ] as const)
    test(`${name} is told with the first use, in Docker's words, and mounts nothing`, () =>
      withVolumeDriver(openLocalDriver, async ({ root, driver }) => {
        const spec = { name: "v1", options };
        await driver.create(spec);
        await assert.rejects(driver.mount(spec, "a"), (error: Error) => {
          const path = join(root, "volumes/v1/_data");
          const start = `error while mounting volume '${path}': failed to mount local volume: mount ${options.device}:${path}`;
          assert.ok(error.message.startsWith(start), error.message);
          assert.match(error.message, says);
          return true;
        });
        await driver.remove(spec);
      }));

  test("types that need a program are mounted by mount(8), which says what is wrong", () =>
    withVolumeDriver(openLocalDriver, async ({ driver }) => {
      const spec = { name: "v1", options: { type: "fuse.nosuchprogram", device: "x", o: "password=hunter2" } };
      await driver.create(spec);
      await assert.rejects(driver.mount(spec, "a"), (error: Error) => {
        assert.match(error.message, /failed to mount local volume: .*nosuchprogram|no such device/);
        assert.doesNotMatch(error.message, /hunter2/);
        return true;
      });
      await driver.remove(spec);
    }));

  test("no secret stays in a text", () => {
    const text = "mount //h/s, data: username=u,password=a,b=c,pass=d: password=a";
    assert.equal(
      withoutSecrets("x password=hunter2,y hunter2", "username=u,password=hunter2"),
      "x password=********,y ********",
    );
    assert.doesNotMatch(withoutSecrets(text, "pass=data,password=//h"), /data|\/\/h/);
  });
});
