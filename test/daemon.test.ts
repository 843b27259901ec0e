/**
 * `strata daemon` as an administrator meets it: each flag and each key of daemon.json has its effect, and containers live
 * on while no daemon is there, however it ended.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import {
  busyboxTar,
  type CommandResult,
  command,
  type Daemon,
  scratchFolder,
  startStrata,
  unmountBelow,
} from "./support/engine.ts";
import { tarOf } from "./support/tar-bytes.ts";

const skip = process.getuid?.() === 0 ? false : "the daemon needs root";
const strata = new URL("../bin/strata", import.meta.url).pathname;

/** A daemon that is expected not to start. */
const refused = (args: readonly string[]): Promise<CommandResult> =>
  command(strata, ["daemon", ...args], { deadline: 20_000 });

const statusField = (pid: number, field: string): string =>
  new RegExp(`^${field}:\\s+(.*)$`, "m").exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? "";

/** The session that a process belongs to. */
const sessionOf = (pid: number): string =>
  readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ")[3] ?? "";

describe("flags and daemon.json", { skip }, () => {
  const scratch = scratchFolder();
  after(async () => {
    await unmountBelow(scratch.path);
    scratch[Symbol.dispose]();
  });

  const infoOf = async (daemon: Daemon): Promise<Readonly<Record<string, unknown>>> =>
    JSON.parse(await daemon.ok(["info", "--format", "{{json .}}"]));

  async function assertEffects(daemon: Daemon, expected: { readonly pidfile: string; readonly second: string }) {
    const info = await infoOf(daemon);
    assert.deepEqual(info.Labels, ["room=blue", "rack=7"]);
    assert.equal(info.Debug, true);
    assert.equal(info.Driver, "vfs");
    assert.equal(info.DockerRootDir, daemon.dataRoot);
    const registries = info.RegistryConfig as { readonly IndexConfigs: Readonly<Record<string, { Secure: boolean }>> };
    assert.equal(registries.IndexConfigs["registry.example:5000"]?.Secure, false);
    assert.equal(readFileSync(expected.pidfile, "utf8"), `${daemon.pid}\n`);
    assert.ok(existsSync(join(daemon.dataRoot, "vfs")), "the data root holds the driver's data");
    assert.ok(existsSync(daemon.execRoot));
    assert.equal(statSync(expected.second).mode & 0o777, 0o660);
    const port = /"host":"tcp:\/\/127\.0\.0\.1:(\d+)"/.exec(daemon.log())?.[1];
    assert.ok(port !== undefined && port !== "0", "the port that was chosen is in the log");
    for (const host of [`tcp://127.0.0.1:${port}`, `unix://${expected.second}`]) {
      const { stdout } = await daemon.docker(["version", "--format", "{{.Server.Version}}"], {
        env: { DOCKER_HOST: host },
      });
      assert.match(stdout, /^\d+\.\d+\.\d+/, host);
    }
    assert.match(daemon.log(), /is open to everyone who reaches it/);
  }

  test("each flag has its effect, and the end takes sockets and the pid file away", async () => {
    const root = join(scratch.path, "flags");
    const [pidfile, second] = [join(scratch.path, "flags.pid"), join(scratch.path, "second.sock")];
    const daemon = await startStrata({
      root,
      driver: "vfs",
      args: [
        ...["--pidfile", pidfile, "-H", "tcp://127.0.0.1:0", "--host", `unix://${second}`, "-D"],
        ...["--label", "room=blue", "--label", "rack=7", "--insecure-registry", "registry.example:5000"],
      ],
    });
    await assertEffects(daemon, { pidfile, second });
    const other = await refused([
      "--data-root",
      daemon.dataRoot,
      "--exec-root",
      join(scratch.path, "x"),
      "-H",
      "unix:///x",
    ]);
    assert.deepEqual([other.code, other.stderr.includes(`${daemon.pid}`)], [1, true], other.stderr);
    await daemon.stop();
    for (const path of [pidfile, second, join(root, "docker.sock"), join(daemon.dataRoot, "strata.pid")])
      assert.ok(!existsSync(path), `${path} was left`);
    assert.match(daemon.log(), /containers go on running/);
  });

  test("the same keys in daemon.json have the same effect", async () => {
    const root = join(scratch.path, "file");
    const [pidfile, second] = [join(scratch.path, "file.pid"), join(scratch.path, "third.sock")];
    const file = join(scratch.path, "daemon.json");
    const settings = {
      ...{ "data-root": join(root, "data"), "exec-root": join(root, "exec"), pidfile, "storage-driver": "vfs" },
      ...{ debug: true, labels: ["room=blue", "rack=7"], "insecure-registries": ["registry.example:5000"] },
      hosts: [`unix://${join(root, "docker.sock")}`, "tcp://127.0.0.1:0", `unix://${second}`],
    };
    writeFileSync(file, JSON.stringify(settings));
    await using daemon = await startStrata({ root, onlyArgs: ["--config-file", file] });
    await assertEffects(daemon, { pidfile, second });
  });

  test("a key that is unknown, given both ways, or of another type is named, and nothing starts", async () => {
    const file = join(scratch.path, "wrong.json");
    for (const [content, args, says] of [
      ['{"live-restore":true}', [], /don't match any configuration option: live-restore/],
      ['{"debug":true}', ["-D"], /both as a flag and in the configuration file: debug/],
      ['{"hosts":["unix:///x"]}', ["-H", "unix:///y"], /both as a flag and in the configuration file: hosts/],
      ['{"labels":"a=b"}', [], /labels: /],
      ["{", [], /is not JSON/],
      ["{}", ["-s", "zip"], /unknown storage driver "zip"/],
      ["{}", ["-s", "aufs"], /storage driver aufs \(it was chosen\) cannot be used: .*use overlay2/],
      ["{}", ["--storage-opt", "nope.size=1"], /nope\.size|unknown option/i],
      ["{}", ["--storage-opt", "nothing"], /not of the form key=value/],
      ["{}", ["--log-level", "loud"], /log-level/],
      ["{}", ["-H", "ftp://x"], /invalid host ftp:\/\/x/],
      ["{}", ["--no-such-flag"], /--no-such-flag/],
    ] as const) {
      writeFileSync(file, content);
      const roots = ["--data-root", join(scratch.path, "never"), "--exec-root", join(scratch.path, "never-exec")];
      const { code, stderr } = await refused([...roots, "--config-file", file, ...args]);
      assert.equal(code, 1, `${content} ${args.join(" ")}: ${stderr}`);
      assert.match(stderr, says);
      assert.doesNotMatch(stderr, /\n\s+at /);
    }
    const missing = await refused(["--config-file", join(scratch.path, "missing.json")]);
    assert.match(missing.stderr, /missing\.json/);
  });

  test("what one driver keeps is not another's, and is there again with the driver", async () => {
    const root = join(scratch.path, "drivers");
    const images = ["images", "--format", "{{.Repository}}"];
    for (const [driver, kept] of [
      ["vfs", ""],
      ["overlay2", ""],
      ["vfs", "vfs"],
      ["overlay2", "overlay2"],
      // vfs is the last resort, never what its data choose
      [undefined, "overlay2"],
    ] as const) {
      await using daemon = await startStrata({ root, ...(driver === undefined ? {} : { driver }) });
      assert.equal(await daemon.ok(images), kept);
      assert.equal((await infoOf(daemon)).Driver, driver ?? "overlay2");
      if (kept === "") await daemon.ok(["import", "-", driver], { input: tarOf({ name: "a", content: driver }) });
    }
  });

  test("a quiet log has warnings only", async () => {
    await using daemon = await startStrata({ root: join(scratch.path, "quiet"), driver: "vfs", args: ["-l", "error"] });
    assert.equal(daemon.log(), "");
  });

  test("a socket that somebody listens on, and a file that is no socket, are not taken", async () => {
    const path = join(scratch.path, "taken.sock");
    const roots = ["--data-root", join(scratch.path, "t"), "--exec-root", join(scratch.path, "te"), "-s", "vfs"];
    const holder = createServer().listen(path);
    await once(holder, "listening");
    const busy = await refused([...roots, "-H", `unix://${path}`]);
    assert.match(busy.stderr, /another process answers there/);
    holder.close();
    await once(holder, "close");
    writeFileSync(path, "a file");
    const file = await refused([...roots, "-H", `unix://${path}`]);
    assert.match(file.stderr, /is no socket/);
    assert.equal(readFileSync(path, "utf8"), "a file");
  });
});

describe("containers outlive the daemon", { skip }, () => {
  const scratch = scratchFolder();
  const root = join(scratch.path, "strata");
  let daemon: Daemon;

  before(async () => {
    daemon = await startStrata({ root });
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

  const stateOf = (name: string): Promise<string> =>
    daemon.ok(["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", name]);

  test("a container is in a session and a cgroup of its own, and so is what watches it", async () => {
    await daemon.ok(["run", "-d", "--name", "own", "bb", "sleep", "600"]);
    const pid = Number(await daemon.ok(["inspect", "-f", "{{.State.Pid}}", "own"]));
    const keeper = Number(statusField(pid, "PPid"));
    const cgroupOf = (of: number): string => readFileSync(`/proc/${of}/cgroup`, "utf8");
    assert.equal(new Set([daemon.pid, pid, keeper].map(sessionOf)).size, 3, "one session each");
    assert.notEqual(cgroupOf(pid), cgroupOf(daemon.pid));
    assert.notEqual(cgroupOf(keeper), cgroupOf(daemon.pid));
    assert.notEqual(keeper, daemon.pid);
    await daemon.ok(["rm", "-f", "own"]);
  });

  for (const how of ["stop", "kill"] as const) {
    test(`after a ${how} the next daemon finds all of them as they are`, async () => {
      const talking = 'i=0; while true; do echo "line $i"; i=$((i+1)); sleep 0.2; done';
      await daemon.ok(["run", "-d", "--name", "talks", "bb", "sh", "-c", talking]);
      await daemon.ok(["run", "-d", "--name", "ends", "bb", "sh", "-c", "sleep 1; exit 7"]);
      await daemon.ok(["run", "-d", "--rm", "--name", "goes", "bb", "sleep", "1"]);
      await daemon.ok([
        "run",
        "-d",
        "--name",
        "polite",
        "bb",
        "sh",
        "-c",
        "trap 'exit 5' TERM; while :; do sleep 0.1; done",
      ]);
      await daemon.ok(["run", "-di", "--name", "reads", "bb", "cat"]);
      await daemon.ok(["run", "-d", "--name", "rests", "bb", "sleep", "600"]);
      await daemon.ok(["pause", "rests"]);
      const pid = await daemon.ok(["inspect", "-f", "{{.State.Pid}}", "talks"]);
      await daemon[how]();
      assert.ok(existsSync(`/proc/${pid}`), "a container runs while no daemon is there");
      await sleep(1500);
      daemon = await startStrata({ root });
      assert.equal(await daemon.ok(["inspect", "-f", "{{.State.Pid}} {{.RestartCount}}", "talks"]), `${pid} 0`);
      assert.equal(await stateOf("ends"), "exited 7");
      assert.equal(await daemon.ok(["wait", "ends"]), "7");
      assert.match((await daemon.docker(["inspect", "goes"])).stderr, /No such (object|container)/);
      assert.equal(await stateOf("rests"), "paused 0");
      const lines = (await daemon.ok(["logs", "talks"])).split("\n");
      assert.ok(lines.length >= 7, "what it said meanwhile is in its log");
      assert.deepEqual(
        lines,
        lines.map((_, index) => `line ${index}`),
      );
      assert.equal(await daemon.ok(["exec", "talks", "echo", "in"]), "in");
      assert.equal(await attached("reads", "through\n"), "through\n");
      await daemon.ok(["stop", "polite"]);
      assert.equal(await stateOf("polite"), "exited 5");
      const waiting = daemon.ok(["wait", "talks"]);
      await daemon.ok(["kill", "talks"]);
      assert.equal(await waiting, "137");
      await daemon.ok(["unpause", "rests"]);
      await daemon.ok(["start", "polite"]);
      assert.equal(await stateOf("polite"), "running 0");
      await daemon.ok(["rm", "-f", "-v", "talks", "ends", "polite", "reads", "rests"]);
    });
  }

  /** Types `text` into a container that echoes it, until it has come back. */
  async function attached(name: string, text: string): Promise<string> {
    const child = spawn("docker", ["attach", "--no-stdin=false", "--sig-proxy=false", name], {
      env: { ...process.env, DOCKER_HOST: daemon.host },
      stdio: ["pipe", "pipe", "ignore"],
    });
    child.stdin.write(text);
    const timer = setTimeout(() => child.kill(), 10_000);
    let said = "";
    for await (const part of child.stdout) {
      said += String(part);
      if (said.length >= text.length) break;
    }
    clearTimeout(timer);
    child.kill();
    return said;
  }

  test("policies hold across a daemon's end: always comes back, unless-stopped stays as it was left", async () => {
    await daemon.ok(["run", "-d", "--restart", "always", "--name", "again", "bb", "sleep", "1"]);
    await daemon.ok(["run", "-d", "--restart", "unless-stopped", "--name", "left", "bb", "sleep", "600"]);
    await daemon.ok(["stop", "-t", "0", "left"]);
    await daemon.kill();
    await sleep(1200);
    daemon = await startStrata({ root });
    const until = performance.now() + 10_000;
    while ((await stateOf("again")) !== "running 0" && performance.now() < until) await sleep(50);
    assert.equal(await stateOf("again"), "running 0");
    assert.match(await stateOf("left"), /^exited/);
    await daemon.ok(["rm", "-f", "again", "left"]);
  });
});
