import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { isError } from "../base/errors.ts";
import { heldCapabilities } from "./capabilities.ts";
import { RuntimeFixture, skipReason } from "./runtime.fixture.ts";
import { defaultInitPath, type SpecInput } from "./spec.ts";

const statusLine = (text: string, name: string): string => new RegExp(`^${name}:\\s*(.*)$`, "m").exec(text)?.[1] ?? "";

describe("what a container may and sees", { skip: skipReason ?? false, timeout: 60_000 }, () => {
  let fixture: RuntimeFixture;
  before(async () => {
    fixture = await RuntimeFixture.open();
  });
  after(() => fixture[Symbol.asyncDispose]());

  const shell = async (script: string, change: Partial<SpecInput> = {}): Promise<string> => {
    const { stdout, stderr, code } = await fixture.run(["sh", "-c", script], change);
    assert.equal(code, 0, `${script}: ${stderr}`);
    return stdout.trim();
  };

  test("by default: Docker's fourteen capabilities and a seccomp filter", async () => {
    const status = await shell("cat /proc/self/status");
    assert.equal(statusLine(status, "CapEff"), "00000000a80425fb");
    assert.equal(statusLine(status, "CapBnd"), "00000000a80425fb");
    assert.equal(statusLine(status, "CapInh"), "0000000000000000");
    assert.equal(statusLine(status, "Seccomp"), "2");
    assert.equal(statusLine(status, "NoNewPrivs"), "0");
  });

  test("another user than root holds none, but keeps the bounding set", async () => {
    const status = await shell("cat /proc/self/status", { user: { uid: 1000, gid: 1001, additionalGids: [1001, 10] } });
    assert.equal(statusLine(status, "CapEff"), "0000000000000000");
    assert.equal(statusLine(status, "CapBnd"), "00000000a80425fb");
    assert.equal(statusLine(status, "Uid"), "1000\t1000\t1000\t1000");
    assert.equal(statusLine(status, "Groups").trim(), "10 1001");
  });

  test("options add, drop and lift", async () => {
    const change = {
      capDrop: ["ALL"],
      capAdd: ["net_admin"],
      securityOptions: ["no-new-privileges", "seccomp=unconfined"],
    };
    const status = await shell("cat /proc/self/status", change);
    assert.equal(statusLine(status, "CapBnd"), "0000000000001000");
    assert.equal(statusLine(status, "Seccomp"), "0");
    assert.equal(statusLine(status, "NoNewPrivs"), "1");
  });

  test("a profile of one's own is obeyed", async () => {
    const profile = {
      defaultAction: "SCMP_ACT_ALLOW",
      syscalls: [{ names: ["mkdir", "mkdirat"], action: "SCMP_ACT_ERRNO" }],
    };
    const result = await fixture.run(["mkdir", "/tmp/never"], {
      securityOptions: [`seccomp=${JSON.stringify(profile)}`],
    });
    assert.notEqual(result.code, 0);
    assert.match(result.stderr, /Operation not permitted/);
  });

  test("kernel files are masked or read-only, unless privileged", async () => {
    const probe =
      "wc -c < /proc/timer_list; ls /sys/firmware | wc -l; (echo 0 > /proc/sys/kernel/domainname) 2>&1 | grep -c 'Read-only'; true";
    assert.equal(await shell(probe), "0\n0\n1");
    const status = await shell("cat /proc/self/status; touch /sys/fs/cgroup/x 2>&1; cat /proc/mounts", {
      privileged: true,
    });
    assert.equal(statusLine(status, "Seccomp"), "0");
    const all = heldCapabilities().length;
    assert.equal([...BigInt(`0x${statusLine(status, "CapEff")}`).toString(2)].filter((bit) => bit === "1").length, all);
    assert.match(status, / \/sys sysfs rw,/);
    assert.doesNotMatch(status, /\/proc\/timer_list/);
  });

  test("the defaults of Docker are mounted, with the size of /dev/shm that is asked for", async () => {
    const mounts = await shell("cat /proc/mounts", { shmSize: 1 << 20 });
    for (const line of [
      / \/proc proc rw,nosuid,nodev,noexec/,
      / \/dev tmpfs rw,nosuid.*mode=755/,
      / \/dev\/pts devpts rw,nosuid,noexec.*gid=5,mode=620,ptmxmode=666/,
      / \/sys sysfs ro,nosuid,nodev,noexec/,
      / \/dev\/mqueue mqueue rw,nosuid,nodev,noexec/,
      / \/dev\/shm tmpfs rw,nosuid,nodev,noexec.*size=1024k/,
    ])
      assert.match(mounts, line);
  });

  test("mounts of the caller lie shallow below deep and take the place of defaults", async () => {
    const [outer, inner] = [join(fixture.directory, "outer"), join(fixture.directory, "inner")];
    await mkdir(join(outer, "deep"), { recursive: true });
    await mkdir(inner, { recursive: true });
    await writeFile(join(outer, "a"), "outer");
    await writeFile(join(inner, "b"), "inner");
    const mounts = [
      { destination: "/data/deep", type: "bind", source: inner, options: ["rbind", "ro", "rprivate"] },
      { destination: "/data", type: "bind", source: outer, options: ["rbind", "rw", "rprivate"] },
      { destination: "/dev/shm", type: "tmpfs", source: "tmpfs", options: ["size=64k", "noexec"] },
    ];
    const text = await shell(
      "cat /data/a /data/deep/b; touch /data/deep/no 2>/dev/null || echo ' ro'; grep shm /proc/mounts",
      { mounts },
    );
    assert.match(text, /^outerinner ro\n/);
    assert.match(text, /size=64k/);
  });

  test("a read-only root is read-only", async () => {
    assert.equal(await shell("touch /x 2>/dev/null || echo no", { readonlyRootfs: true }), "no");
  });

  test("names, sysctls and devices", async () => {
    const change: Partial<SpecInput> = {
      network: "none",
      hostname: "inside",
      sysctls: { "net.ipv4.ip_forward": "1" },
      devices: [{ hostPath: "/dev/loop-control", containerPath: "/dev/ctl", permissions: "r" }],
    };
    const script =
      "hostname; cat /proc/sys/net/ipv4/ip_forward; cat /sys/class/net/lo/operstate /sys/class/net/lo/flags; ls /sys/class/net; (: < /dev/ctl) && echo readable; (: > /dev/ctl) 2>/dev/null || echo denied";
    assert.equal(await shell(script, change), "inside\n1\nunknown\n0x9\nlo\nreadable\ndenied");
    assert.equal(await shell("head -c 1 /dev/kmsg 2>/dev/null || echo none"), "none");
  });

  test("namespaces may be the host's", async () => {
    const links = "for name in pid uts ipc net mnt; do readlink /proc/self/ns/$name; done";
    const { readlink } = await import("node:fs/promises");
    const own = await Promise.all(["pid", "uts", "ipc", "net", "mnt"].map((name) => readlink(`/proc/self/ns/${name}`)));
    const joined = (await shell(links, { pid: "host", uts: "host", ipc: "host", network: "host" })).split("\n");
    assert.deepEqual(joined.slice(0, 4), own.slice(0, 4));
    assert.notEqual(joined[4], own[4]);
    const apart = (await shell(links, { network: "none" })).split("\n");
    assert.equal(apart.filter((link, at) => link === own[at]).length, 0);
  });

  test("an init program is process 1 and reaps", {
    skip: existsSync(defaultInitPath) ? false : "needs tini",
  }, async () => {
    const text = await shell(
      "cat /proc/1/cmdline | tr '\\000' ' '; echo; (sleep 0.01 &); sleep 0.2; grep -l Z /proc/[0-9]*/stat | wc -l",
      { initPath: defaultInitPath },
    );
    assert.match(text, /^\/sbin\/docker-init -- sh -c .*\n0$/s);
    assert.equal((await fixture.run(["sh", "-c", "exit 9"], { initPath: defaultInitPath })).code, 9);
  });

  test("limits of the process that are asked for are set; a score that is not allowed is refused", async () => {
    const ulimits = [
      { name: "nofile", soft: 100, hard: 200 },
      { name: "cpu", soft: -1, hard: -1 },
    ];
    const limits = await shell("cat /proc/self/limits", { ulimits });
    assert.match(limits, /Max open files\s+100\s+200/);
    assert.match(limits, /Max cpu time\s+unlimited\s+unlimited/);
    assert.equal(await shell("cat /proc/self/oom_score_adj", { oomScoreAdj: 300 }), "300");
    if (!heldCapabilities().includes("CAP_SYS_RESOURCE"))
      await assert.rejects(shell("true", { oomScoreAdj: -500 }), (error) => isError(error, "unsupported"));
  });

  test("no descriptor of the daemon is inherited", async () => {
    assert.equal(await shell("ls /proc/self/fd | tr '\\n' ' '"), "0 1 2 3");
  });
});
