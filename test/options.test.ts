/**
 * Each option of `docker run`, `create`, `update` and `exec` that is accepted has its effect, seen in the kernel from
 * inside the container; each that is not is refused in a sentence that says what to do.
 */
import assert from "node:assert/strict";
import { existsSync, readFileSync, readlinkSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { busyboxTar, type Daemon, scratchFolder, startStrata, unmountBelow } from "./support/engine.ts";

const skip = process.getuid?.() === 0 ? false : "the daemon needs root";
const unified = existsSync("/sys/fs/cgroup/cgroup.controllers");

/** What is asked, what is run inside, and what it must print. */
type Effect = readonly [args: readonly string[], script: string, prints: RegExp | string];

const status = (field: string): string => `grep ^${field}: /proc/self/status | tr -d '\\t'`;
/** All that a container can be given: what this machine's root may have. */
const held = /^CapBnd:\s+(\w+)$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1] ?? "";
const namespace = (kind: string): string => `readlink /proc/self/ns/${kind}`;
const ofHost = (kind: string): string => readlinkSync(`/proc/self/ns/${kind}`);

const processEffects: readonly Effect[] = [
  [["-e", "A=1", "-e", "B=two words"], 'echo "$A $B"', "1 two words"],
  [["-w", "/made/for/it"], "pwd", "/made/for/it"],
  [["-u", "user"], "id -u; id -g", "1000\n1000"],
  [["-u", "12345:678"], "id -u; id -g", "12345\n678"],
  [["-u", "user", "--group-add", "root", "--group-add", "77"], "id -G", /^1000 0 77$|^1000 77 0$/],
  [
    ["--hostname", "named"],
    "hostname; cat /etc/hostname; grep -c named /etc/hostname; echo $HOSTNAME",
    "named\nnamed\n1\nnamed",
  ],
  [["--domainname", "example"], "cat /proc/sys/kernel/domainname", "example"],
  [["--init"], "cat /proc/1/comm; ps | grep -c '[s]h -c'", /^(docker-init|tini|tini-static)\n/],
  [["--privileged"], `${status("CapEff")}; ${status("Seccomp")}`, `CapEff:${held}\nSeccomp:0`],
  [
    [],
    `${status("CapEff")}; ${status("Seccomp")}; ${status("NoNewPrivs")}`,
    "CapEff:00000000a80425fb\nSeccomp:2\nNoNewPrivs:0",
  ],
  [["--cap-drop", "ALL"], status("CapEff"), "CapEff:0000000000000000"],
  [["--cap-drop", "ALL", "--cap-add", "net_admin"], status("CapEff"), "CapEff:0000000000001000"],
  [["--security-opt", "seccomp=unconfined"], status("Seccomp"), "Seccomp:0"],
  [["--security-opt", "no-new-privileges"], status("NoNewPrivs"), "NoNewPrivs:1"],
  [["--ulimit", "nofile=123:456"], "ulimit -Sn; ulimit -Hn", "123\n456"],
  [["--ulimit", "core=-1"], "ulimit -c", "unlimited"],
  [["--oom-score-adj", "321"], "cat /proc/self/oom_score_adj", "321"],
  [["--sysctl", "net.core.somaxconn=99"], "cat /proc/sys/net/core/somaxconn", "99"],
  [["--sysctl", "kernel.msgmax=12345"], "cat /proc/sys/kernel/msgmax", "12345"],
  [["--entrypoint", "echo"], "x", /^-c x$/],
  [
    ["--device", "/dev/loop-control:/dev/lc:r"],
    "(: </dev/lc) && echo read; (: >/dev/lc) 2>&1 | grep -c 'not permitted'",
    "read\n1",
  ],
  [["--add-host", "db:10.1.2.3", "--add-host", "six=::9"], "grep -E 'db|six' /etc/hosts", "10.1.2.3\tdb\n::9\tsix"],
  [
    ["--dns", "9.9.9.9", "--dns-search", "here", "--dns-option", "ndots:3"],
    "cat /etc/resolv.conf",
    /nameserver 9\.9\.9\.9\nsearch here\noptions ndots:3/,
  ],
];

const namespaceEffects: readonly Effect[] = [
  [
    [],
    "cat /sys/class/net/lo/operstate; ls /sys/class/net | wc -l; ip addr show lo | grep -c 127.0.0.1",
    "unknown\n1\n1",
  ],
  [["--network", "none"], "ls /sys/class/net; ip link show lo | grep -c UP", "lo\n1"],
  [["--network", "host"], namespace("net"), ofHost("net")],
  [["--pid", "host"], namespace("pid"), ofHost("pid")],
  [["--ipc", "host"], namespace("ipc"), ofHost("ipc")],
  [["--uts", "host"], `${namespace("uts")}; hostname`, `${ofHost("uts")}\n${hostname()}`],
  [["--ipc", "none"], "ls -d /dev/shm 2>&1; grep -c ' /dev/shm ' /proc/mounts", /0$/],
  [
    ["--cgroupns", "private"],
    "test $(readlink /proc/self/ns/cgroup) != HOST && cut -d: -f3 /proc/self/cgroup | sort -u",
    "/",
  ],
];

const memoryFile = unified ? "/sys/fs/cgroup/memory.max" : "/sys/fs/cgroup/memory/memory.limit_in_bytes";
const pidsFile = unified ? "/sys/fs/cgroup/pids.max" : "/sys/fs/cgroup/pids/pids.max";
const cpuFile = unified
  ? "cat /sys/fs/cgroup/cpu.max"
  : "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.cfs_period_us";

const limitEffects: readonly Effect[] = [
  [["--memory", "64m"], `cat ${memoryFile}`, String(64 * 2 ** 20)],
  [["--pids-limit", "33"], `cat ${pidsFile}`, "33"],
  [["--cpus", "0.5"], cpuFile, /^50000\s100000$/],
  [["--cpu-period", "50000", "--cpu-quota", "10000"], cpuFile, /^10000\s50000$/],
  [
    ["--cpu-shares", "512"],
    unified ? "cat /sys/fs/cgroup/cpu.weight" : "cat /sys/fs/cgroup/cpu/cpu.shares",
    unified ? /^(20|59)$/ : "512",
  ],
  [["--cpuset-cpus", "0"], "grep Cpus_allowed_list /proc/self/status | tr -d '\\t'", "Cpus_allowed_list:0"],
  [["--shm-size", "3m"], "df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2", "3072"],
  [
    ["--tmpfs", "/t:size=2m,mode=1700,exec"],
    "grep ' /t ' /proc/mounts; stat -c %a /t",
    /^tmpfs \/t tmpfs rw,nosuid,nodev,(noatime,|relatime,)?size=2048k,mode=1700.*\n1700$/,
  ],
  [["--read-only"], "touch /x 2>&1; touch /dev/shm/x && echo shm", /Read-only file system\nshm$/],
];

/** Arguments, and what must be said. */
const refusals: readonly (readonly [args: readonly string[], says: RegExp])[] = [
  [["-p", "80:80"], /publishing ports is not supported: use --network host/],
  [["-P"], /publishing ports is not supported/],
  [["--link", "x"], /links are not supported: leave --link out|No such container/],
  [["--gpus", "all"], /--gpus\) are not supported/],
  [["--storage-opt", "size=1"], /overlay2: storage size cannot be less than/],
  [["--log-driver", "syslog"], /no log driver named 'syslog' is registered: use json-file or none/],
  [["--log-opt", "max-file=3"], /log option max-file=3 is not supported/],
  [["--ipc", "shareable"], /IPC mode "shareable" is not supported/],
  [["--userns", "private"], /user namespace mode "private" is not supported|invalid USER mode/i],
  [["--isolation", "hyperv"], /isolation "hyperv" is not supported/],
  [["--memory-swappiness", "5"], /leave --memory-swappiness out/],
  [["--blkio-weight", "50"], /BlkioWeight is not supported/],
  [["--oom-kill-disable"], /OomKillDisable is not supported/],
  [["--device-cgroup-rule", "c 1:3 rwm"], /DeviceCgroupRules is not supported/],
  [["--annotation", "a=b"], /Annotations is not supported/],
  [["--mac-address", "92:d0:c6:0a:29:33"], /MAC addresses/],
  [["--ip", "10.1.2.3"], /addresses of one's own/],
  [["--runtime", "kata"], /unknown or invalid runtime name: kata/],
  [["--pull", "always"], /pull is not supported/],
  [["--platform", "linux/s390x"], /platform linux\/s390x is not supported/],
  [["--volume-driver", "nope", "-v", "vol:/v"], /plugin "nope" not found/],
  [["--security-opt", "apparmor=x"], /AppArmor/],
  [["--security-opt", "label=type:x"], /SELinux/],
  [["--add-host", "x:host-gateway"], /host-gateway is not supported/],
  [["--cap-add", "NOPE"], /unknown capability/],
  [["--memory", "1m"], /Minimum memory limit allowed is 6MB/],
  [["--cpus", "1000"], /range of CPUs/],
  [["--restart", "sometimes"], /unknown policy|invalid restart policy/],
];

describe("options of run", { skip }, () => {
  const scratch = scratchFolder();
  let daemon: Daemon;

  before(async () => {
    daemon = await startStrata({ root: join(scratch.path, "strata") });
    const tar = await busyboxTar(join(scratch.path, "bb.tar"));
    await daemon.ok(["import", "-c", 'CMD ["sh"]', tar, "bb"]);
  });

  after(async () => {
    const ids = (await daemon.ok(["ps", "-aq"])).split("\n").filter((id) => id !== "");
    if (ids.length > 0) await daemon.docker(["rm", "-f", "-v", ...ids]);
    await daemon.stop();
    await unmountBelow(scratch.path);
    scratch[Symbol.dispose]();
  });

  /** Runs each; all that is wrong is told at once. */
  async function assertEffects(effects: readonly Effect[]): Promise<void> {
    const wrong: unknown[] = [];
    for (const [args, script, prints] of effects) {
      const tail = args.includes("--entrypoint") ? ["-c", script] : ["sh", "-c", script];
      const { stdout, stderr } = await daemon.docker(["run", "--rm", ...args, "bb", ...tail]);
      const text = stdout.trim();
      const right = typeof prints === "string" ? text === prints : prints.test(text);
      if (!right) wrong.push({ args: args.join(" "), expected: String(prints), text, stderr: stderr.slice(0, 300) });
    }
    assert.deepEqual(wrong, []);
  }

  test("process: user, environment, names, rights, limits", () => assertEffects(processEffects));
  test("namespaces: of its own by default, the host's when asked", () => assertEffects(namespaceEffects));
  test("limits stand in the cgroup and in the mounts", () => assertEffects(limitEffects));

  test("what is not supported is refused in a sentence, and nothing is made", async () => {
    const wrong: unknown[] = [];
    for (const [args, says] of refusals) {
      const { code, stderr } = await daemon.docker(["create", ...args, "bb", "true"]);
      if (code === 0 || !says.test(stderr) || /Unable to find image/.test(stderr)) wrong.push({ args, code, stderr });
    }
    assert.deepEqual(wrong, []);
    assert.equal(await daemon.ok(["ps", "-aq"]), "");
    assert.equal(await daemon.ok(["volume", "ls", "-q"]), "");
  });

  test("names, labels, detaching, terminals and --rm", async () => {
    const id = await daemon.ok(["run", "-d", "--name", "named", "--label", "a=b", "bb", "sleep", "600"]);
    assert.match(id, /^[0-9a-f]{64}$/);
    assert.equal(await daemon.ok(["inspect", "-f", "{{.Name}} {{.Config.Labels.a}}", id]), "/named b");
    assert.equal(await daemon.ok(["ps", "-q", "--no-trunc"]), id);
    const terminal = await daemon.docker(["run", "--rm", "-t", "bb", "sh", "-c", "test -t 1 && echo terminal"]);
    assert.equal(terminal.stdout, "terminal\r\n");
    const piped = await daemon.docker(["run", "--rm", "-i", "bb", "cat"], { input: "in and out" });
    assert.equal(piped.stdout, "in and out");
    assert.equal(await daemon.ok(["ps", "-aq", "--no-trunc"]), id);
    await daemon.ok(["rm", "-f", "named"]);
  });

  test("stop signals and their time", async () => {
    const trap = "trap 'exit 9' USR1; while :; do sleep 0.05; done";
    await daemon.ok(["run", "-d", "--name", "signalled", "--stop-signal", "USR1", "bb", "sh", "-c", trap]);
    await daemon.ok(["stop", "signalled"]);
    assert.equal(await daemon.ok(["inspect", "-f", "{{.State.ExitCode}}", "signalled"]), "9");
    const deaf = "trap '' TERM; while :; do sleep 0.05; done";
    await daemon.ok(["run", "-d", "--name", "deaf", "--stop-timeout", "1", "bb", "sh", "-c", deaf]);
    const started = performance.now();
    await daemon.ok(["stop", "deaf"]);
    assert.ok(performance.now() - started > 900);
    assert.equal(await daemon.ok(["inspect", "-f", "{{.State.ExitCode}}", "deaf"]), "137");
    await daemon.ok(["rm", "signalled", "deaf"]);
  });

  test("restart policies run a failing container again, as often as they say", async () => {
    await daemon.ok(["run", "-d", "--name", "thrice", "--restart", "on-failure:2", "bb", "sh", "-c", "exit 3"]);
    const until = performance.now() + 20_000;
    const state = (): Promise<string> => daemon.ok(["inspect", "-f", "{{.State.Status}} {{.RestartCount}}", "thrice"]);
    while ((await state()) !== "exited 2" && performance.now() < until) await daemon.docker(["wait", "thrice"]);
    assert.equal(await state(), "exited 2");
    await daemon.ok(["run", "-d", "--name", "once", "--restart", "no", "bb", "false"]);
    await daemon.ok(["wait", "once"]);
    assert.equal(await daemon.ok(["inspect", "-f", "{{.State.Status}} {{.RestartCount}}", "once"]), "exited 0");
    await daemon.ok(["rm", "-f", "thrice", "once"]);
  });

  test("logs: none is kept with the driver none, and max-size bounds one", async () => {
    await daemon.ok(["run", "--name", "silent", "--log-driver", "none", "bb", "echo", "x"]);
    assert.match((await daemon.docker(["logs", "silent"])).stderr, /does not support reading/);
    const much = "yes 0123456789012345678901234567890123456789 | head -n 30000";
    await daemon.ok(["run", "-d", "--name", "much", "--log-opt", "max-size=100k", "bb", "sh", "-c", much]);
    await daemon.ok(["wait", "much"]);
    const path = await daemon.ok(["inspect", "-f", "{{.LogPath}}", "much"]);
    assert.ok(readFileSync(path).length <= 110 * 1024, `${readFileSync(path).length} bytes`);
    await daemon.ok(["rm", "silent", "much"]);
  });

  test("health checks are recorded", async () => {
    const health = ["--health-cmd", "true", "--health-interval", "5s", "--health-retries", "4"];
    await daemon.ok(["create", "--name", "health", ...health, "bb"]);
    const recorded = await daemon.ok(["inspect", "-f", "{{json .Config.Healthcheck}}", "health"]);
    assert.deepEqual(JSON.parse(recorded), { Test: ["CMD-SHELL", "true"], Interval: 5e9, Retries: 4 });
    await daemon.ok(["rm", "health"]);
  });

  test("update changes the limits of a running container, and of the next run", async () => {
    await daemon.ok(["run", "-d", "--name", "updated", "--memory", "64m", "bb", "sleep", "600"]);
    await daemon.ok([
      "update",
      "--memory",
      "96m",
      "--memory-swap",
      "192m",
      "--cpu-shares",
      "256",
      "--pids-limit",
      "44",
      "updated",
    ]);
    const limits = ["exec", "updated", "sh", "-c", `cat ${memoryFile} ${pidsFile}`];
    assert.equal(await daemon.ok(limits), `${96 * 2 ** 20}\n44`);
    await daemon.ok(["restart", "-t", "0", "updated"]);
    assert.equal(await daemon.ok(limits), `${96 * 2 ** 20}\n44`);
    await daemon.ok(["update", "--restart", "always", "updated"]);
    assert.equal(await daemon.ok(["inspect", "-f", "{{.HostConfig.RestartPolicy.Name}}", "updated"]), "always");
    assert.match((await daemon.docker(["update", "--memory", "1m", "updated"])).stderr, /Minimum memory limit/);
    await daemon.ok(["rm", "-f", "updated"]);
  });

  test("exec has options of its own", async () => {
    await daemon.ok(["run", "-d", "--name", "host", "--cap-drop", "ALL", "-e", "A=1", "bb", "sleep", "600"]);
    const exec = (...args: readonly string[]): Promise<string> => daemon.ok(["exec", ...args]);
    assert.equal(await exec("-e", "B=2", "host", "sh", "-c", "echo $A$B"), "12");
    assert.equal(await exec("-w", "/tmp", "host", "sh", "-c", "pwd"), "/tmp");
    assert.equal(await exec("-u", "user", "host", "id", "-un"), "user");
    assert.equal(await exec("host", "sh", "-c", status("CapEff")), "CapEff:0000000000000000");
    assert.equal(await exec("--privileged", "host", "sh", "-c", status("CapEff")), `CapEff:${held}`);
    assert.equal((await daemon.docker(["exec", "-t", "host", "sh", "-c", "test -t 1 && echo yes"])).stdout, "yes\r\n");
    assert.equal((await daemon.docker(["exec", "-i", "host", "cat"], { input: "piped" })).stdout, "piped");
    await exec("-d", "host", "sh", "-c", "sleep 0.1; echo done >/tmp/done");
    assert.equal(await exec("host", "sh", "-c", "until test -s /tmp/done; do sleep 0.05; done; cat /tmp/done"), "done");
    assert.equal((await daemon.docker(["exec", "host", "nothing"])).code, 127);
    assert.equal((await daemon.docker(["exec", "host", "/etc"])).code, 126);
    await daemon.ok(["rm", "-f", "host"]);
  });

  test("another container's network and processes can be joined", async () => {
    await daemon.ok(["run", "-d", "--name", "first", "bb", "sleep", "600"]);
    const net = await daemon.ok(["exec", "first", "readlink", "/proc/self/ns/net"]);
    await assertEffects([
      [["--network", "container:first"], namespace("net"), net],
      [["--pid", "container:first"], "ps | grep -c '[s]leep 600'", "1"],
    ]);
    await daemon.ok(["rm", "-f", "first"]);
  });
});
