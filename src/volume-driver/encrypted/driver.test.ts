import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { chmod, link, mkdir, readdir, readFile, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { until } from "../../../test/support/until.ts";
import { errorMessage, systemCode } from "../../base/errors.ts";
import { type VolumeDriverCase, type VolumeSetting, volumeDriverSuite, withVolumeDriver } from "../conformance.ts";
import type { VolumeSpec } from "../driver.ts";
import { missingOf } from "../requirements.ts";
import { openEncryptedDriver } from "./driver.ts";
import { parseOptions } from "./options.ts";

const needs = [{ kind: "program", name: "gocryptfs", advice: "" }] as const;
const missing = (await missingOf(needs)).length > 0 ? "gocryptfs is not installed" : false;
const skip = process.getuid?.() === 0 ? missing : "mounting needs root";

const key = "correct horse battery staple";

/** A key of root's beside the driver's folders. */
const setting: VolumeSetting = {
  options: ({ root }) => {
    writeFileSync(join(root, "key"), `${key}\n`, { mode: 0o600 });
    return { key: `@${join(root, "key")}` };
  },
};

const given = (work: (given: VolumeDriverCase) => Promise<void>) => () =>
  withVolumeDriver(openEncryptedDriver, work, setting);

describe("encrypted", { skip }, () => {
  volumeDriverSuite("encrypted", openEncryptedDriver, setting);

  test(
    "nothing on disk tells names, contents or the key, and what is counted is what is seen",
    given(async ({ driver, root, spec }) => {
      await driver.create(spec("one"));
      const path = await driver.mount(spec("one"), "a");
      await fill(path);
      const seen = sizeOf(path);
      assert.equal(await driver.usage(spec("one")), seen);
      const running = execFileSync("ps", ["axeww"], { encoding: "utf8" });
      assert.match(running, new RegExp(`gocryptfs.*${root}`));
      assert.ok(!running.includes(key), "the key is in a command line or an environment");
      await driver.unmount(spec("one"), "a");
      assert.equal(await driver.usage(spec("one")), seen, "without a mount as well");
      assert.deepEqual(await readdir(path), []);
      for (const word of ["plain-name", "plain content", "plain-target", key]) {
        const found = execFileSync("sh", [
          "-c",
          'grep -rlaF -- "$1" "$2"; find "$2" -name "*$1*"; true',
          "sh",
          word,
          folderOf(root),
        ]);
        assert.equal(found.toString(), "", `${word} is on disk`);
      }
    }),
  );

  test(
    "another key is refused in clear words, and leaves nothing; the right one opens the volume again",
    given(async ({ driver, root, spec }) => {
      await driver.create(spec("one"));
      await writeFile(join(await driver.mount(spec("one"), "a"), "f"), "kept");
      await driver.unmount(spec("one"), "a");
      await writeFile(join(root, "key"), "wrong-key-of-mine");
      await assert.rejects(driver.mount(spec("one"), "b"), (error) => {
        assert.match(errorMessage(error), /the key is wrong/);
        assert.ok(!errorMessage(error).includes("wrong-key-of-mine"));
        return true;
      });
      await chmod(join(root, "key"), 0o644);
      await assert.rejects(driver.mount(spec("one"), "b"), { code: "invalid_argument", message: /chmod 600/ });
      await chmod(join(root, "key"), 0o600);
      await writeFile(join(root, "key"), key);
      assert.equal(await readFile(join(await driver.mount(spec("one"), "b"), "f"), "utf8"), "kept");
      await driver.unmount(spec("one"), "b");
    }),
  );

  test(
    "a server that was killed is noticed: the next mount is a new one",
    given(async ({ driver, root, spec }) => {
      await driver.create(spec("one"));
      const path = await driver.mount(spec("one"), "a");
      await writeFile(join(path, "f"), "kept");
      await killServers(root);
      // Whoever asks in the moment of the kernel's farewell is told that the connection broke.
      await assert.rejects(stat(path), (error) => ["ENOTCONN", "ECONNABORTED"].includes(systemCode(error) ?? ""));
      assert.equal(await driver.mount(spec("one"), "b"), path);
      assert.equal(await readFile(join(path, "f"), "utf8"), "kept");
      await driver.unmount(spec("one"), "a");
      assert.equal(await readFile(join(path, "f"), "utf8"), "kept");
      await killServers(root);
      await driver.unmount(spec("one"), "b");
      await driver.remove(spec("one"));
    }),
  );

  test(
    "a server that hangs is ended with the last use",
    given(async ({ driver, root, spec }) => {
      await driver.create(spec("one"));
      await driver.mount(spec("one"), "a");
      for (const pid of serversFor(root)) process.kill(pid, "SIGSTOP");
      await driver.unmount(spec("one"), "a");
      await driver.remove(spec("one"));
      assert.deepEqual(serversFor(root), []);
    }),
  );

  test(
    "a restart takes a mounted volume up again, and ends one that nobody uses",
    given(async ({ driver, root, reopen, spec }) => {
      for (const name of ["used", "unused"]) {
        await driver.create(spec(name));
        await writeFile(join(await driver.mount(spec(name), "a"), "f"), name);
      }
      const before = serversFor(root);
      const again = await reopen();
      const path = await again.mount(spec("used"), "a");
      await again.settle?.();
      assert.equal(await readFile(join(path, "f"), "utf8"), "used");
      await until("the unused one ends", () => serversFor(root).length === 1);
      assert.ok(before.includes(serversFor(root)[0] ?? 0), "the same server");
      await again.unmount(spec("used"), "a");
      assert.deepEqual(serversFor(root), []);
    }),
  );

  test(
    "device: a directory of one's own is begun when it is empty, opened when it is encrypted, else refused",
    given(async ({ driver, root, spec }) => {
      const device = join(root, "a strange, 'directory' -o ro");
      const on = (name: string, place: string): VolumeSpec => ({
        name,
        options: { ...spec("one").options, device: place },
      });
      await assert.rejects(driver.create(on("one", device)), { code: "invalid_argument", message: /no directory/ });
      await mkdir(device);
      await driver.create(on("one", device));
      await writeFile(join(await driver.mount(on("one", device), "a"), "f"), "kept");
      await driver.unmount(on("one", device), "a");
      await driver.remove(on("one", device));
      await driver.create(on("two", device));
      assert.equal(await readFile(join(await driver.mount(on("two", device), "a"), "f"), "utf8"), "kept");
      await driver.unmount(on("two", device), "a");
      await mkdir(join(root, "full/of"), { recursive: true });
      await assert.rejects(driver.create(on("three", join(root, "full"))), { message: /is not empty/ });
      assert.deepEqual(await driver.list(), ["two"]);
    }),
  );
});

describe("options of encrypted", () => {
  test("the key is needed, by reference", () => {
    assert.throws(() => parseOptions({}), { message: /missing required option: "key"; key=@\/path/ });
    assert.throws(
      () => parseOptions({ key }),
      (error) => /the option key takes a reference/.test(errorMessage(error)) && !errorMessage(error).includes(key),
    );
    assert.deepEqual(parseOptions({ key: "@k" }), { device: undefined });
  });
  for (const device of ["", "relative", "-o", "/", "/a/../b", "/a/", "/a\n", "/a\0"])
    test(`the device ${JSON.stringify(device)} is refused`, () =>
      assert.throws(() => parseOptions({ key: "@k", device }), { code: "invalid_argument", message: /option device/ }));
  test("other options are refused", () =>
    assert.throws(() => parseOptions({ key: "@k", nonempty: "1" }), { message: /invalid option: "nonempty"/ }));
});

const folderOf = (root: string): string => join(root, "volume-drivers/encrypted");

async function fill(path: string): Promise<void> {
  await mkdir(join(path, `plain-name-${"x".repeat(200)}`));
  await symlink("plain-target/of/a/link", join(path, "plain-name-link"));
  for (const size of [0, 1, 18, 4095, 4096, 4097, 100_000])
    await writeFile(join(path, `plain-name-${size}`), "plain content ".repeat(size).slice(0, size));
  await link(join(path, "plain-name-4097"), join(path, "plain-name-second"));
}

/** As the engine counts: everything but directories, each inode once. */
function sizeOf(path: string): number {
  const text = execFileSync("find", [path, "!", "-type", "d", "-printf", "%i %s\\n"], { encoding: "utf8" });
  const sizes = new Map(
    text
      .trim()
      .split("\n")
      .map((line) => line.split(" ") as [string, string]),
  );
  return [...sizes.values()].reduce((sum, size) => sum + Number(size), 0);
}

async function killServers(root: string): Promise<void> {
  for (const pid of serversFor(root)) process.kill(pid, "SIGKILL");
  await until("they end", () => serversFor(root).length === 0);
}

function serversFor(root: string): number[] {
  return readdirSync("/proc")
    .filter((entry) => /^\d+$/.test(entry))
    .filter((pid) => {
      try {
        const words = readFileSync(`/proc/${pid}/cmdline`, "utf8");
        return words.startsWith("gocryptfs") && words.includes(root);
      } catch {
        return false;
      }
    })
    .map(Number);
}
