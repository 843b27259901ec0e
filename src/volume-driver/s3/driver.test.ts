import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { access, open, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { scratchFolder } from "../../../test/support/engine.ts";
import { processesBelow } from "../../../test/support/processes.ts";
import { type S3Server, startS3, swiftIsHere } from "../../../test/support/swift.ts";
import { until } from "../../../test/support/until.ts";
import { errorMessage } from "../../base/errors.ts";
import { type VolumeDriverCase, volumeDriverSuite, withVolumeDriver } from "../conformance.ts";
import type { OpenVolumeDriver } from "../conformance-bench.ts";
import type { VolumeSpec } from "../driver.ts";
import { missingOf } from "../requirements.ts";
import { openS3Driver } from "./driver.ts";
import { parseOptions } from "./options.ts";

const needs = ["rclone", "fusermount"].map((name) => ({ kind: "program", name, advice: "" }) as const);
const absent = !swiftIsHere || (await missingOf(needs)).length > 0;
const skip = process.getuid?.() !== 0 ? "mounting needs root" : absent ? "rclone or swift is not installed" : false;

/** A server that does not answer is not waited for long. */
const openImpatient: OpenVolumeDriver = (options) => openS3Driver({ ...options, patience: 500 });

describe("s3", { skip }, () => {
  const scratch = scratchFolder();
  let server: S3Server;

  before(async () => {
    server = await startS3(join(scratch.path, "server"));
    await server.makeBucket("volumes");
  });
  after(async () => {
    await server?.[Symbol.asyncDispose]();
    scratch[Symbol.dispose]();
  });

  const optionsFor = (prefix: string): VolumeSpec["options"] => ({
    bucket: "volumes",
    prefix,
    endpoint: server.endpoint,
    access_key: `@${server.accessKey}`,
    secret_key: `@${server.secretKey}`,
  });
  const specFor = (prefix: string): VolumeSpec => ({ name: "one", options: optionsFor(prefix) });
  const given =
    (work: (given: VolumeDriverCase) => Promise<void>, open: OpenVolumeDriver = openS3Driver) =>
    () =>
      withVolumeDriver(open, work);

  volumeDriverSuite("s3", openS3Driver, { options: ({ place }) => optionsFor(place) });

  test(
    "what was written and closed is on the server when the last use is over, and nothing stays here",
    given(async ({ driver, root }) => {
      const spec = specFor("a, strange 'prefix'/of -o \"many\"");
      await driver.create(spec);
      const path = await driver.mount(spec, "a");
      const names = Array.from({ length: 30 }, (_, index) => `f${String(index).padStart(2, "0")}`);
      await Promise.all(names.map((name) => writeFile(join(path, name), `content of ${name}`)));
      await writeFile(join(path, "empty"), "");
      await writeFile(join(path, "large"), Buffer.alloc(20_000_000, "large "));
      const running = execFileSync("ps", ["axww"], { encoding: "utf8" });
      assert.match(running, /rclone mount .*volumes\/a, strange/);
      assert.ok(!running.includes(server.secret) && !running.includes("test:tester"));
      await driver.unmount(spec, "a");
      assert.deepEqual(await server.list(`volumes/${spec.options.prefix}`), ["empty", ...names, "large"].sort());
      assert.equal(await server.read(`volumes/${spec.options.prefix}/f07`), "content of f07");
      assert.deepEqual(await readdir(join(root, "volume-drivers/s3/one")), ["_data"]);
      const found = execFileSync("sh", ["-c", 'grep -rlF -e "$1" "$2" || true', "sh", server.secret, root]);
      assert.equal(found.toString(), "", "the secret is on disk");
    }),
  );

  test(
    "a server that does not answer holds up nobody: what is written goes there later, and until then the volume stays",
    given(async ({ driver, root }) => {
      const spec = specFor("late");
      await driver.create(spec);
      const file = await open(join(await driver.mount(spec, "a"), "f"), "w");
      server.freeze();
      try {
        await file.writeFile("late but whole");
        await file.close();
        await driver.unmount(spec, "a");
        await assert.rejects(driver.remove(spec), (error) => {
          assert.match(errorMessage(error), /1 files of the volume one have not reached the server/);
          return true;
        });
        assert.equal(processesBelow(root).filter(({ line }) => line.startsWith("rclone")).length, 1);
      } finally {
        server.thaw();
      }
      await until("rclone ends", () => processesBelow(root).length === 0);
      assert.equal(await server.read("volumes/late/f"), "late but whole");
      await until("the cache goes", async () => !(await isThere(join(root, "volume-drivers/s3/one/cache"))));
      await driver.remove(spec);
    }, openImpatient),
  );

  test(
    "an rclone that was killed loses nothing: the next use sends what it had, also after a restart",
    given(async ({ driver, root, reopen }) => {
      const spec = specFor("killed");
      await driver.create(spec);
      const file = await open(join(await driver.mount(spec, "a"), "f"), "w");
      server.freeze();
      try {
        await file.writeFile("not lost");
        await file.close();
        for (const { pid } of processesBelow(root)) process.kill(pid, "SIGKILL");
        await driver.unmount(spec, "a");
        await assert.rejects(driver.remove(spec), { code: "conflict" });
      } finally {
        server.thaw();
      }
      const again = await reopen();
      assert.equal(await readFile(join(await again.mount(spec, "b"), "f"), "utf8"), "not lost");
      await again.unmount(spec, "b");
      assert.equal(await server.read("volumes/killed/f"), "not lost");
    }),
  );

  test(
    "what was written to files that are still open when rclone is killed is not lost either",
    given(async ({ driver, root, reopen }) => {
      const spec = specFor("open");
      await driver.create(spec);
      const path = await driver.mount(spec, "a");
      for (const name of ["emptied", "longer"]) await writeFile(join(path, name), "there before");
      await driver.unmount(spec, "a");
      await driver.mount(spec, "a");
      const [fresh, emptied, longer] = ["x".repeat(100_000), "new", "there before, and read, and after"];
      assert.equal(await readFile(join(path, "longer"), "utf8"), "there before");
      const files = await Promise.all(
        [
          ["fresh", "w"],
          ["emptied", "w"],
          ["longer", "a+"],
          ["nothing", "w"],
        ].map(([name = "", flags]) => open(join(path, name), flags)),
      );
      await files[0]?.writeFile(fresh);
      await files[1]?.writeFile(emptied);
      await files[2]?.readFile();
      for (const text of [", and read", ", and after"]) await files[2]?.write(text);
      for (const { pid } of processesBelow(root)) process.kill(pid, "SIGKILL");
      for (const file of files) await file.close().catch(() => undefined);
      await driver.unmount(spec, "a");
      const again = await reopen();
      await again.mount(spec, "b");
      const read = (): Promise<readonly string[]> =>
        Promise.all(["emptied", "fresh", "longer", "nothing"].map((name) => readFile(join(path, name), "utf8")));
      assert.deepEqual(await read(), [emptied, fresh, longer, ""]);
      await again.unmount(spec, "b");
      await again.mount(spec, "c");
      assert.deepEqual(await read(), [emptied, fresh, longer, ""]);
      await again.unmount(spec, "c");
    }),
  );

  test(
    "owners as asked for, read-only where asked for",
    given(async ({ driver }) => {
      const spec = {
        name: "one",
        options: { ...optionsFor("late"), uid: "7", gid: "8", ro: "", vfs_cache: "full", cache_size: "10m" },
      };
      await driver.create(spec);
      const path = await driver.mount(spec, "a");
      const { uid, gid } = await stat(join(path, "f"));
      assert.deepEqual([uid, gid], [7, 8]);
      await assert.rejects(writeFile(join(path, "g"), "x"));
      await driver.unmount(spec, "a");
      assert.deepEqual(await server.list("volumes/late"), ["f"]);
    }),
  );

  const failures: readonly [
    string,
    (root: string) => Promise<VolumeSpec["options"]> | VolumeSpec["options"],
    RegExp,
  ][] = [
    ["a bucket that is not there", () => ({ bucket: "nowhere" }), /there is no bucket nowhere on http.*NoSuchBucket/],
    [
      "a wrong secret",
      async (root) => {
        await writeFile(join(root, "secrets", "wrong"), "not-the-secret", { mode: 0o600 });
        return { secret_key: "@wrong" };
      },
      /does not let these keys into the bucket volumes \(SignatureDoesNotMatch\)/,
    ],
    [
      "a key that the server does not know",
      () => ({ access_key: `@${server.secretKey}` }),
      /does not let these keys into/,
    ],
    [
      "a port where nobody listens",
      () => ({ endpoint: "http://127.0.0.1:1" }),
      /http:\/\/127.0.0.1:1 does not answer: ECONNREFUSED/,
    ],
    ["a secret that is not there", () => ({ secret_key: "@none" }), /secret_key refers to, is not there/],
  ];
  for (const [title, change, says] of failures)
    test(
      `${title} is a clear error, and leaves no process and no mount`,
      given(async ({ driver, root }) => {
        const spec = { name: "one", options: { ...optionsFor("never"), ...(await change(root)) } };
        await driver.create(spec);
        await assert.rejects(driver.mount(spec, "a"), (error) => {
          assert.match(errorMessage(error), says);
          return !errorMessage(error).includes("not-the-secret");
        });
        assert.deepEqual(processesBelow(root), []);
        assert.deepEqual(await readdir(join(root, "volume-drivers/s3/one")), ["_data"]);
      }),
    );
});

const isThere = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );

describe("options of s3", () => {
  const fine = { bucket: "b-1.x", region: "eu-west-1", access_key: "@a", secret_key: "@s" };
  test("a bucket of Amazon, a part of it, and another server", () => {
    assert.equal(parseOptions(fine).endpoint, undefined);
    assert.equal(parseOptions({ ...fine, prefix: "/a b/-c,d/" }).prefix, "a b/-c,d");
    assert.equal(parseOptions({ ...fine, endpoint: "https://s3.example:9000/" }).endpoint, "https://s3.example:9000");
    assert.equal(parseOptions({ ...fine, cache_size: "64m" }).cacheSize, 64 * 1024 * 1024);
  });
  const hostile: readonly [Record<string, string>, RegExp][] = [
    [{ bucket: "" }, /"bucket"/],
    [{ bucket: "-b" }, /option bucket/],
    [{ bucket: "a/b" }, /option bucket/],
    [{ bucket: "a:b" }, /option bucket/],
    [{ bucket: "a\nb" }, /option bucket/],
    [{ prefix: "a/../b" }, /option prefix/],
    [{ prefix: "a//b" }, /option prefix/],
    [{ prefix: "a\0" }, /option prefix/],
    [{ endpoint: "ftp://x" }, /option endpoint/],
    [{ endpoint: "http://u:p@x" }, /option endpoint; it takes/],
    [{ endpoint: "http://x/path" }, /option endpoint/],
    [{ endpoint: "http://x,y z" }, /option endpoint/],
    [{ region: "a b" }, /option region/],
    [{ region: "-x" }, /option region/],
    [{ access_key: "AKIA" }, /option access_key takes a reference/],
    [{ secret_key: "s3cr3t" }, /option secret_key takes a reference/],
    [{ vfs_cache: "off" }, /option vfs_cache/],
    [{ cache_size: "1k" }, /option cache_size/],
    [{ cache_size: "much" }, /invalid size/],
    [{ uid: "root" }, /option uid/],
    [{ ro: "1" }, /option ro/],
    [{ config: "/etc/x" }, /invalid option: "config"; s3 has bucket/],
  ];
  for (const [options, says] of hostile)
    test(`${JSON.stringify(options)} is refused`, () =>
      assert.throws(
        () => parseOptions({ ...fine, ...options }),
        (error) => says.test(errorMessage(error)) && !errorMessage(error).includes("s3cr3t"),
      ));
  for (const name of ["bucket", "access_key", "secret_key"])
    test(`without ${name} it is refused`, () => {
      const { [name]: _, ...others } = fine as Record<string, string>;
      assert.throws(() => parseOptions(others), { message: new RegExp(`missing required option: "${name}"`) });
    });
});
