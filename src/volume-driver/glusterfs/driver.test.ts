import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { volumeDriverSuite, withVolumeDriver } from "../conformance.ts";
import { missingOf } from "../requirements.ts";
import { type Cluster, server, startCluster, volume } from "./cluster.fixture.ts";
import { openGlusterfsDriver, parseOptions } from "./driver.ts";

const glusterd = { kind: "program", name: "glusterd", advice: "install the package glusterfs-server" } as const;
const skip =
  process.getuid?.() !== 0
    ? "mounting needs root"
    : (await missingOf([glusterd])).length > 0
      ? "glusterd is not installed"
      : false;
const cluster = { servers: server, volume };

describe("glusterfs", { skip }, () => {
  let running: Cluster;

  before(async () => {
    running = await startCluster();
  });
  after(async () => running[Symbol.asyncDispose]());

  volumeDriverSuite("glusterfs", openGlusterfsDriver, {
    options: ({ place }) => ({ ...cluster, subdir: `cases/${place}` }),
  });

  test("nothing is lost when one of two bricks crashes under load, and then the other", () =>
    withVolumeDriver(openGlusterfsDriver, async ({ driver }) => {
      const spec = { name: "v1", options: { ...cluster, subdir: "load" } };
      await driver.create(spec);
      const path = await driver.mount(spec, "use");
      const files = 60;
      const content = (index: number): string => `${index}`.repeat(2000);
      for (let index = 0; index < files; index++) {
        if (index === files / 3) running.killBrick("one");
        writeFileSync(join(path, `f${index}`), content(index), { flush: true });
      }
      for (let index = 0; index < files; index++)
        assert.equal(readFileSync(join(path, `f${index}`), "utf8"), content(index));
      assert.ok(readdirSync(join(running.brick("one"), "load")).length < files, "it was not away");
      await running.heal();
      running.killBrick("two");
      for (let index = 0; index < files; index++)
        assert.equal(readFileSync(join(path, `f${index}`), "utf8"), content(index));
      await running.heal();
      await driver.unmount(spec, "use");
      await driver.remove(spec);
      assert.ok(existsSync(join(running.brick("one"), "load/f0")), "what is in the cluster stays there");
    }));

  test("what is wrong is said, and mounts nothing", () =>
    withVolumeDriver(openGlusterfsDriver, async ({ driver }) => {
      for (const [name, options, code, says] of [
        ["v1", { ...cluster, volume: "nope" }, "not_found", /has no volume nope, or it is not started/],
        ["v2", { ...cluster, servers: "10.44.0.9" }, "unavailable", /none of 10\.44\.0\.9 answers/],
      ] as const) {
        await driver.create({ name, options });
        await assert.rejects(driver.mount({ name, options }, "use"), { code, message: says });
      }
    }));

  test("another server is asked when the first is away", () =>
    withVolumeDriver(openGlusterfsDriver, async ({ driver }) => {
      const spec = { name: "v1", options: { ...cluster, servers: `10.44.0.9,${server}`, o: "ro" } };
      await driver.create(spec);
      const path = await driver.mount(spec, "use");
      assert.throws(() => writeFileSync(join(path, "f"), ""), { code: "EROFS" });
      await driver.unmount(spec, "use");
    }));
});

describe("options of glusterfs", () => {
  test("become words of the program", () => {
    assert.deepEqual(
      parseOptions({ servers: "a, b", volume: "v", subdir: "x/y", port: "24008", o: "ro,acl,noatime,entry-timeout=5" }),
      {
        servers: ["a", "b"],
        volume: "v",
        subdir: "x/y",
        flags: [
          "--volfile-server-port=24008",
          "--read-only",
          "--acl",
          "--entry-timeout=5",
          "--fuse-mountopts=nosuid,nodev,noatime",
        ],
      },
    );
  });

  for (const [options, says] of [
    [{ volume: "v" }, /missing required option: "servers"/],
    [{ servers: "a" }, /missing required option: "volume"/],
    [{ servers: "-x", volume: "v" }, /servers/],
    [{ servers: "a,", volume: "v" }, /servers/],
    [{ servers: "[::1]", volume: "v" }, /give the server a name/],
    [{ servers: "a", volume: "../v" }, /volume/],
    [{ servers: "a", volume: "v", subdir: "../x" }, /subdir/],
    [{ servers: "a", volume: "v", o: "xlator-option=x" }, /unknown word: "xlator-option"/],
    [{ servers: "a", volume: "v", o: "log-file=/etc/x" }, /unknown word/],
    [{ servers: "a", volume: "v", path: "x" }, /invalid option: "path"; glusterfs has servers, volume, subdir/],
  ] as const)
    test(`${JSON.stringify(options)} are refused`, () =>
      assert.throws(() => parseOptions(options), { code: "invalid_argument", message: says }));
});
