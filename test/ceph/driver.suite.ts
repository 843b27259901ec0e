/**
 * The ceph driver against a real cluster of one machine (`npm run test:ceph`): conformance, and what goes wrong.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { errorMessage } from "../../src/base/errors.ts";
import { mountTable } from "../../src/host/mount.ts";
import { AT_FDCWD, setXattr } from "../../src/host/sys.ts";
import { openCephDriver } from "../../src/volume-driver/ceph/driver.ts";
import { type VolumeDriverCase, volumeDriverSuite, withVolumeDriver } from "../../src/volume-driver/conformance.ts";
import type { VolumeSpec } from "../../src/volume-driver/driver.ts";
import { type Ceph, type CephUser, startCeph } from "../support/ceph.ts";
import { scratchFolder } from "../support/engine.ts";
import { processesBelow } from "../support/processes.ts";
import { until } from "../support/until.ts";

const given =
  (work: (given: VolumeDriverCase) => Promise<void>): (() => Promise<void>) =>
  () =>
    withVolumeDriver(openCephDriver, work);

describe("ceph", () => {
  const scratch = scratchFolder();
  let cluster: Ceph;

  before(async () => {
    cluster = await startCeph(join(scratch.path, "cluster"));
  });
  after(async () => {
    await cluster?.[Symbol.asyncDispose]();
    scratch[Symbol.dispose]();
  });

  const optionsFor = (path: string, user: CephUser = "app"): VolumeSpec["options"] => {
    const [secret, mons] = [`@${cluster.key(user).file}`, cluster.v2];
    return { mons, user, secret, fs: cluster.fs, path };
  };
  const serverOf = (root: string): number[] =>
    processesBelow(join(root, "volume-drivers"))
      .filter(({ line }) => line.startsWith("ceph-fuse "))
      .map(({ pid }) => pid);

  volumeDriverSuite("ceph", openCephDriver, { options: ({ place }) => optionsFor(`/cases/${place}`) });

  test(
    "v1, v2, both, and a keyring: each is a way to the same directory",
    given(async ({ driver }) => {
      const { v1, v2, fs } = cluster;
      const secret = `@${cluster.key("app").keyring}`;
      for (const [index, mons] of [v1, v2, `[${v2}/0,${v1}/0]`, `v2:localhost:1,${v1}`].entries()) {
        const spec = { name: `v${index}`, options: { mons, fs, secret, user: "app", path: "ways" } };
        await driver.create(spec);
        const path = await driver.mount(spec, "use");
        assert.deepEqual(readdirSync(path), ["0", "1", "2", "3"].slice(0, index));
        writeFileSync(join(path, `${index}`), "");
        await driver.unmount(spec, "use");
      }
    }),
  );

  test(
    "a cluster that has IPv6 alone",
    given(async ({ driver, root }) => {
      await using other = await startCeph(join(scratch.path, "other"), "[::1]");
      const secret = `@${other.key("app").file}`;
      for (const [index, mons] of [`[${other.v2}/0,${other.v1}/0]`, other.v1].entries()) {
        const spec = { name: `v${index}`, options: { mons, secret, user: "app", path: "/six" } };
        await driver.create(spec);
        writeFileSync(join(await driver.mount(spec, "use"), `${index}`), "");
        await driver.unmount(spec, "use");
        await until("its program ends", () => serverOf(root).length === 0);
      }
    }),
  );

  test(
    "the words of o are in the kernel's table and in what is allowed",
    given(async ({ driver }) => {
      const mounted = async (o: string, work: (path: string, options: string) => void): Promise<void> => {
        const spec = { name: "one", options: { ...optionsFor("/words"), o } };
        await driver.create(spec);
        const path = await driver.mount(spec, "use");
        work(
          path,
          mountTable()
            .find(({ target }) => target === path)
            ?.options.join(",") ?? "",
        );
        await driver.unmount(spec, "use");
        await driver.remove(spec);
      };
      const acl = Buffer.from("0200000001000600ffffffff04000400ffffffff10000600ffffffff20000400ffffffff", "hex");
      const setAcl = (path: string): void => setXattr(AT_FDCWD, path, "system.posix_acl_access", acl);
      await mounted("", (path, options) => {
        assert.match(options, /^rw,nosuid,nodev,/);
        writeFileSync(join(path, "f"), "");
        assert.throws(() => setAcl(join(path, "f")), { code: "ENOTSUP" });
      });
      await mounted("ro,noexec,noatime", (path, options) => {
        assert.match(options, /^ro,nosuid,nodev,noexec,noatime/);
        assert.throws(() => writeFileSync(join(path, "f"), "x"), { code: "EROFS" });
      });
      await mounted("suid,acl", (path, options) => {
        assert.match(options, /^rw,nodev,/);
        setAcl(join(path, "f"));
      });
    }),
  );

  test(
    "the key is seen by nobody: in no command line, environment, file, record or message",
    given(async ({ driver, root }) => {
      const { text } = cluster.key("app");
      const { secret: _, ...others } = optionsFor("/seen");
      writeFileSync(join(root, "secrets/shop"), `${text}\n`, { mode: 0o600 });
      const spec = { name: "one", options: { ...others, secret: "@shop" } };
      await driver.create(spec);
      await driver.mount(spec, "use");
      const [pid] = serverOf(root);
      const shown = [
        execFileSync("ps", ["axeww"], { encoding: "utf8" }),
        ...["cmdline", "environ"].map((name) => readFileSync(`/proc/${pid}/${name}`, "utf8")),
        execFileSync("sh", ["-c", 'find "$1" -type f -exec cat {} +', "sh", join(root, "volume-drivers")]).toString(),
        JSON.stringify(await driver.describe(spec)),
      ].join("\n");
      assert.ok(shown.includes("client.app"), "the program is seen");
      assert.ok(!shown.includes(text.slice(0, -4)));
      await driver.unmount(spec, "use");
      writeFileSync(join(root, "secrets/shop"), `${text.slice(0, -4)}x===\n`, { mode: 0o600 });
      await assert.rejects(driver.mount(spec, "use"), (error) => {
        assert.ok(!errorMessage(error).includes(text.slice(0, 20)));
        assert.match(errorMessage(error), /the file of the option secret holds no key/);
        return true;
      });
    }),
  );

  const failures: readonly [string, () => VolumeSpec["options"], string, RegExp][] = [
    [
      "a key of somebody else",
      () => ({ secret: `@${cluster.key("narrow").file}` }),
      "forbidden",
      /let client.app in with this key/,
    ],
    [
      "the same with v1",
      () => ({ mons: cluster.v1, secret: `@${cluster.key("narrow").file}` }),
      "forbidden",
      /let client.app in/,
    ],
    ["a user who is not there", () => ({ user: "nobody" }), "forbidden", /let client.nobody in/],
    ["a filesystem that is not there", () => ({ fs: "nope" }), "not_found", /the cluster has no filesystem nope/],
    [
      "a directory that cannot be made",
      () => optionsFor("/a/b", "reader"),
      "forbidden",
      /directory "a" cannot be made/,
    ],
    [
      "a directory where a user may not go",
      () => optionsFor("/a", "narrow"),
      "forbidden",
      /client.narrow may not mount \//,
    ],
    [
      "a monitor that is not there",
      () => ({ mons: "v2:127.0.0.1:1" }),
      "unavailable",
      /none of the monitors 127.0.0.1:1 answers$/,
    ],
    [
      "another protocol",
      () => ({ mons: cluster.v1.replace("v1", "v2") }),
      "unavailable",
      /answers \(at 127.0.0.1:\d+ v1 is spoken\)/,
    ],
    ["a file of a key that others may read", () => ({ secret: "@/etc/passwd" }), "invalid_argument", /open to others/],
  ];
  for (const [title, change, code, says] of failures)
    test(
      `${title} is a clear error, and leaves no process and no mount`,
      given(async ({ driver, root }) => {
        const spec = { name: "one", options: { ...optionsFor("/never"), ...change() } };
        await driver.create(spec);
        await assert.rejects(driver.mount(spec, "use"), (error) => {
          assert.match(errorMessage(error), says);
          assert.equal((error as { code?: string }).code, code);
          return true;
        });
        assert.deepEqual([serverOf(root), readdirSync(join(root, "volume-drivers/ceph/one"))], [[], ["_data"]]);
      }),
    );

  test(
    "a user of one directory alone has it, and a link out of the cluster is not followed",
    given(async ({ driver, root }) => {
      const all = { name: "all", options: optionsFor("/") };
      await driver.create(all);
      mkdirSync(join(await driver.mount(all, "use"), "narrow/own"), { recursive: true });
      const spec = { name: "one", options: optionsFor("/narrow/own/below", "narrow") };
      await driver.create(spec);
      writeFileSync(join(await driver.mount(spec, "use"), "f"), "hello");
      await driver.unmount(spec, "use");
      symlinkSync(root, join(await driver.mount(all, "use"), "out"));
      await driver.create({ name: "out", options: optionsFor("/out/made/below") });
      await assert.rejects(driver.mount({ name: "out", options: optionsFor("/out/made/below") }, "use"));
      assert.ok(!existsSync(join(root, "made")), "a link leads nobody out of the cluster");
      const path = await driver.mount(all, "use");
      assert.equal(readFileSync(join(path, "narrow/own/below/f"), "utf8"), "hello");
      await driver.unmount(all, "use");
    }),
  );

  test(
    "a program that was killed is noticed at the next use, and what was synced is there",
    given(async ({ driver, root }) => {
      const spec = { name: "one", options: optionsFor("/killed") };
      await driver.create(spec);
      const path = await driver.mount(spec, "use");
      writeFileSync(join(path, "f"), "synced", { flush: true });
      const [pid = 0] = serverOf(root);
      process.kill(pid, "SIGKILL");
      await until("it is dead", () => {
        try {
          return statSync(path) === undefined;
        } catch {
          return true;
        }
      });
      assert.equal(readFileSync(join(await driver.mount(spec, "again"), "f"), "utf8"), "synced");
      assert.notDeepEqual(serverOf(root), [pid]);
      await driver.unmount(spec, "use");
      await driver.unmount(spec, "again");
    }),
  );

  test(
    "what was written while the cluster is away gets there when it is back, though its last use is over",
    given(async ({ driver, root }) => {
      const spec = { name: "one", options: optionsFor("/away") };
      await driver.create(spec);
      const path = await driver.mount(spec, "use");
      // A name is the metadata server's matter, and would wait.
      const file = openSync(join(path, "f"), "w");
      writeSync(file, "first");
      fsyncSync(file);
      cluster.freeze("osd");
      try {
        writeSync(file, Buffer.alloc(3_000_000, 7), 0, 3_000_000, 0);
        closeSync(file);
        await driver.unmount(spec, "use");
        assert.equal(
          mountTable().some(({ target }) => target === path),
          false,
          "no longer mounted",
        );
        const [pid] = serverOf(root);
        assert.ok(pid !== undefined, "its program saves");
        for (const work of [() => driver.mount(spec, "use"), () => driver.remove(spec)])
          await assert.rejects(work, (error) => {
            assert.equal((error as { code?: string }).code, "conflict");
            assert.match(errorMessage(error), new RegExp(`has not reached its server; .* end the process ${pid}`));
            return true;
          });
        const again = await openCephDriver({
          root,
          pool: (await import("../../src/host/worker-pool.ts")).createPool(),
        });
        assert.deepEqual(await again.list(), ["one"]);
      } finally {
        cluster.thaw("osd");
      }
      await until("all is saved", () => serverOf(root).length === 0);
      assert.ok(readFileSync(join(await driver.mount(spec, "use"), "f")).equals(Buffer.alloc(3_000_000, 7)));
      await driver.unmount(spec, "use");
    }),
  );
});
