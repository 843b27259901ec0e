/** Local volumes of limited size, and what is left of anything when the process that has the driver is killed. */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readdir, readFile, statfs, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { leftBehind } from "../../host/left-behind.ts";
import { isMountPoint } from "../../host/mount.ts";
import { withVolumeDriver } from "../conformance.ts";
import { openLocalDriver } from "./driver.ts";

const skip = process.getuid?.() === 0 ? false : "mounting needs root";
const fixture = new URL("./child.fixture.ts", import.meta.url).pathname;
const mebibyte = 1 << 20;

/** Kills the child with SIGKILL after so many lines, and a moment. */
async function killAfter(root: string, verb: string, { lines, moment }: { lines: number; moment: number }) {
  const child = spawn(process.execPath, [fixture, root, verb], { stdio: ["ignore", "pipe", "inherit"] });
  const gone = once(child, "exit");
  let seen = 0;
  for await (const _ of createInterface({ input: child.stdout })) if (++seen === lines) break;
  assert.equal(seen, lines, "it ended by itself");
  await sleep(moment);
  child.kill("SIGKILL");
  await gone;
}

describe("local volumes of limited size", { skip }, () => {
  test("df shows the limit; opts.json has it in Docker's form, and tells it of a volume without a record", () =>
    withVolumeDriver(openLocalDriver, async ({ root, driver, reopen }) => {
      const spec = { name: "v1", options: { size: "24m" } };
      await driver.create(spec);
      const path = await driver.mount(spec, "a");
      const { blocks, bsize } = await statfs(path);
      assert.ok(blocks * bsize >= 24 * mebibyte && blocks * bsize < 25 * mebibyte, `${blocks} ${bsize}`);
      await driver.unmount(spec, "a");
      const text = await readFile(join(root, "volumes/v1/opts.json"), "utf8");
      assert.equal(text, '{"MountType":"","MountOpts":"","MountDevice":"","Quota":{"Size":25165824}}');
      assert.deepEqual((await (await reopen()).describe({ name: "v1", options: {} })).options, { size: "25165824" });
    }));

  test("usage is that of the data, mounted or not", () =>
    withVolumeDriver(openLocalDriver, async ({ driver }) => {
      const spec = { name: "v1", options: { size: "8m" } };
      await driver.create(spec);
      await writeFile(join(await driver.mount(spec, "a"), "f"), "12345");
      assert.equal(await driver.usage(spec), 5);
      await driver.unmount(spec, "a");
      assert.equal(await driver.usage(spec), 5);
    }));

  test("killed while a volume is used: the data stays in sight, and mount and loop device go when nobody takes it up", () =>
    withVolumeDriver(openLocalDriver, async ({ root, reopen }) => {
      await killAfter(root, "hold", { lines: 1, moment: 0 });
      const path = join(root, "volumes/sized/_data");
      assert.equal(await readFile(join(path, "f"), "utf8"), "kept");
      const spec = { name: "sized", options: { size: "16m" } };
      const again = await reopen();
      assert.equal(await again.mount(spec, "b"), path);
      await again.settle?.();
      assert.equal(await readFile(join(path, "f"), "utf8"), "kept");
      await (await reopen()).settle?.();
      assert.ok(!isMountPoint(path));
      assert.deepEqual(await leftBehind(root), []);
    }));

  test("where nothing can limit, Docker's words and the reason are told, and nothing stays", () =>
    withVolumeDriver(openLocalDriver, async ({ root }) => {
      // Without mkfs.ext4, as this child sees the machine.
      const hide = 'mount --bind /dev/null "$(readlink -f /usr/sbin/mkfs.ext4)" && exec "$@"';
      const words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", hide, "sh"];
      const [file = "", ...args] = [...words, process.execPath, fixture, root, "create"];
      const said = execFileSync(file, args, { encoding: "utf8" });
      assert.match(said, /^quota size requested but no quota support: .*mkfs\.ext4 is not installed \(e2fsprogs\)/);
      assert.deepEqual(await readdir(join(root, "volumes")), []);
    }));

  test("less than a filesystem can be is refused", () =>
    withVolumeDriver(openLocalDriver, async ({ root, driver }) => {
      await assert.rejects(driver.create({ name: "v1", options: { size: "1k" } }), {
        code: "invalid_argument",
        message: "the size of a volume cannot be less than 4.194MB",
      });
      assert.deepEqual(await readdir(join(root, "volumes")), []);
    }));
});

describe("kills while snapshots, clones and restores are made", { skip }, () => {
  const spec = { name: "v1", options: {} };
  const clone = { name: "clone", options: {} };
  const kills = Number(process.env.STRATA_VOLUME_KILLS ?? 6);

  async function wordOf(path: string): Promise<string> {
    const files = await readdir(path);
    assert.equal(files.length, 80);
    const words = new Set(await Promise.all(files.map((file) => readFile(join(path, file), "utf8"))));
    assert.equal(words.size, 1, `${path} is of several moments`);
    return [...words].join();
  }

  test("leave each of them whole or not there, and nothing besides", () =>
    withVolumeDriver(openLocalDriver, async ({ root, driver, reopen }) => {
      await driver.create(spec);
      const folder = join(root, "volumes/v1");
      await mkdir(join(folder, "_data"), { recursive: true });
      for (const word of ["w0", "w1"]) {
        for (let file = 0; file < 80; file++) await writeFile(join(folder, "_data", `f${file}`), word);
        await driver.snapshots?.create(spec, word);
      }
      for (let kill = 0; kill < kills; kill++) {
        await killAfter(root, "churn", { lines: 1 + kill, moment: Math.random() * 20 });
        const again = await reopen();
        const names = (await again.list()).join();
        assert.match(names, /^(clone,)?v1$/);
        assert.match(await wordOf(join(folder, "_data")), /^w[01]$/);
        if (names !== "v1") assert.match(await wordOf(join(root, "volumes/clone/_data")), /^w[01]$/);
        const snapshots = (await again.snapshots?.list(spec))?.map(({ name }) => name) ?? [];
        assert.match(snapshots.join(), /^w0,w1(,moment)?$/);
        for (const name of snapshots)
          assert.match(
            await wordOf(join(folder, ".snapshots", name, "data")),
            name === "moment" ? /^w[01]$/ : RegExp(name),
          );
        assert.deepEqual((await readdir(join(folder, ".snapshots"))).toSorted(), snapshots.toSorted());
        assert.deepEqual((await readdir(folder)).toSorted(), [".snapshots", "_data"]);
        assert.equal((await readdir(join(root, "volumes"))).toSorted().join(), names);
        if (snapshots.includes("moment")) await again.snapshots?.remove(spec, "moment");
        await again.remove(clone);
      }
    }));
});
