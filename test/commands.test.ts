/** The rest of the docker CLI's commands against a real engine: what they show, copy, attach to, prune and connect. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, readlinkSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import type { Socket } from "node:net";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { rawConnection } from "./support/api.ts";
import { busyboxTar, type Daemon, scratchFolder, startStrata, unmountBelow } from "./support/engine.ts";
import { tarOf } from "./support/tar-bytes.ts";

const skip = process.getuid?.() === 0 ? false : "the daemon needs root";

describe("commands", { skip }, () => {
  const scratch = scratchFolder();
  let daemon: Daemon;

  before(async () => {
    daemon = await startStrata({ root: join(scratch.path, "strata") });
    const tar = await busyboxTar(join(scratch.path, "bb.tar"));
    await daemon.ok(["import", "-c", 'CMD ["sh"]', tar, "bb"]);
  });

  after(async () => {
    await removeAll();
    await daemon.stop();
    await unmountBelow(scratch.path);
    scratch[Symbol.dispose]();
  });

  const linesOf = async (args: readonly string[]): Promise<readonly string[]> =>
    (await daemon.ok(args)).split("\n").filter((line) => line !== "");

  async function removeAll(): Promise<void> {
    const ids = await linesOf(["ps", "-aq"]);
    if (ids.length > 0) await daemon.ok(["rm", "-f", "-v", ...ids]);
  }

  async function until(holds: () => Promise<boolean> | boolean, what: string): Promise<void> {
    for (const give = performance.now() + 15_000; !(await holds()); await sleep(50))
      assert.ok(performance.now() < give, `never came: ${what}`);
  }

  test("ps: every filter, alone and together", async () => {
    await daemon.ok(["build", "-q", "-t", "child", "-"], { input: "FROM bb\nLABEL l=child\n" });
    await daemon.ok(["network", "create", "net1"]);
    await daemon.ok([
      "run",
      "-d",
      "--name",
      "one",
      "--label",
      "a=1",
      "-v",
      "vol1:/d",
      "--expose",
      "80",
      "bb",
      "sleep",
      "600",
    ]);
    await daemon.docker(["run", "--name", "two", "--label", "a=2", "--network", "none", "bb", "sh", "-c", "exit 3"]);
    await daemon.ok(["create", "--name", "three", "--network", "net1", "child"]);
    await daemon.ok(["run", "-d", "--name", "four", "--network", "host", "child", "sleep", "600"]);
    await daemon.ok(["pause", "four"]);
    const id = await daemon.ok(["inspect", "-f", "{{.Id}}", "one"]);
    const shown = async (...filters: readonly string[]): Promise<string> =>
      (await linesOf(["ps", "-a", "--format", "{{.Names}}", ...filters.flatMap((filter) => ["-f", filter])])).join(" ");
    for (const [filters, names] of [
      [[], "four three two one"],
      [[`id=${id.slice(0, 8)}`], "one"],
      [["name=o"], "four two one"],
      [["name=^t"], "three two"],
      [["label=a"], "two one"],
      [["label=a=2"], "two"],
      [["label=l=child"], "four three"],
      [["status=running"], "one"],
      [["status=paused", "status=created"], "four three"],
      [["exited=3"], "two"],
      [["exited=0"], ""],
      [["ancestor=bb"], "four three two one"],
      [["ancestor=child"], "four three"],
      [["before=three"], "two one"],
      [["since=two"], "four three"],
      [["volume=vol1"], "one"],
      [["volume=/d"], "one"],
      [["network=host"], "four"],
      [["network=net1"], "three"],
      [["health=none"], "four three two one"],
      [["health=healthy"], ""],
      [["expose=80"], "one"],
      [["publish=80"], ""],
      [["is-task=true"], ""],
      [["label=a", "status=exited"], "two"],
    ] as const)
      assert.equal(await shown(...filters), names, filters.join(" "));
    assert.deepEqual(await linesOf(["ps", "-q", "-n", "2"]), await linesOf(["ps", "-aq", "-f", "since=two"]));
    assert.equal(await daemon.ok(["ps", "-l", "--format", "{{.Names}}"]), "four");
    assert.match(
      await daemon.ok(["ps", "-s", "-f", "name=one", "--format", "{{.Size}}"]),
      /^\d+(\.\d+)?k?B \(virtual \d/,
    );
  });

  test("stats, top and port", async () => {
    const stats = await daemon.ok(["stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}} {{.PIDs}}", "one"]);
    assert.match(stats, /^one \d+(\.\d+)?[kKM]iB \/ \d.* 1$/);
    assert.match(await daemon.ok(["top", "one"]), /^UID +PID.*\n.* sleep 600$/);
    assert.match(await daemon.ok(["top", "one", "-o", "pid,comm"]), /^PID +COMMAND\n\d+ +sleep$/);
    assert.equal(await daemon.ok(["port", "one"]), "");
  });

  test("container prune takes what does not run; its filters spare", async () => {
    await daemon.ok(["container", "prune", "-f", "--filter", "label!=a=2", "--filter", "until=1h"]);
    await daemon.ok(["container", "prune", "-f", "--filter", "label=nothing"]);
    assert.deepEqual(await linesOf(["ps", "-a", "--format", "{{.Names}}"]), ["four", "three", "two", "one"]);
    assert.match(await daemon.ok(["container", "prune", "-f"]), /Deleted Containers:\n([0-9a-f]{64}\n){2}/);
    assert.deepEqual(await linesOf(["ps", "-a", "--format", "{{.Names}}"]), ["four", "one"]);
  });

  test("system df and prune, image prune", async () => {
    const verbose = await daemon.ok(["system", "df", "-v"]);
    assert.match(verbose, /bb +latest .* 1\.\d+MB|bb +latest/);
    assert.match(verbose, /vol1 +1 /);
    await daemon.ok(["build", "-q", "-"], { input: "FROM bb\nLABEL dangling=1\n" });
    assert.match(await daemon.ok(["image", "prune", "-f"]), /Total reclaimed space: 0B|Deleted Images/);
    assert.deepEqual(await linesOf(["images", "-q", "-f", "dangling=true"]), []);
    await removeAll();
    await daemon.ok(["create", "--name", "stopped", "-v", "/anonymous", "bb"]);
    await daemon.ok(["network", "create", "idle"]);
    await daemon.ok(["system", "prune", "-f", "--volumes"]);
    assert.deepEqual(await linesOf(["ps", "-aq"]), []);
    assert.deepEqual(await linesOf(["network", "ls", "--format", "{{.Name}}"]), ["bridge", "host", "none"]);
    assert.deepEqual((await linesOf(["images", "--format", "{{.Repository}}"])).toSorted(), ["bb", "child"]);
    await daemon.docker(["volume", "rm", "vol1"]);
  });

  test("networks are created, shown, connected and removed", async () => {
    await daemon.ok(["network", "create", "--label", "x=y", "--internal", "mine"]);
    assert.match((await daemon.docker(["network", "create", "mine"])).stderr, /network with name mine already exists/);
    await daemon.ok(["run", "-d", "--name", "user", "bb", "sleep", "600"]);
    await daemon.ok(["network", "connect", "mine", "user"]);
    const show = ["network", "inspect", "-f", "{{.Driver}} {{.Internal}} {{.Labels.x}} {{len .Containers}}", "mine"];
    assert.equal(await daemon.ok(show), "bridge true y 1");
    assert.match((await daemon.docker(["network", "rm", "mine"])).stderr, /has active endpoints/);
    await daemon.ok(["network", "disconnect", "mine", "user"]);
    assert.match((await daemon.docker(["network", "connect", "--ip", "10.0.0.2", "mine", "user"])).stderr, /--ip/);
    assert.match((await daemon.docker(["network", "rm", "bridge"])).stderr, /pre-defined network/);
    await daemon.ok(["network", "rm", "mine"]);
    assert.deepEqual(await linesOf(["network", "ls", "-f", "type=custom", "-q"]), []);
    await daemon.ok(["rm", "-f", "user"]);
  });

  test("events: live, in the past, and by every filter", async () => {
    const since = String(Date.now() / 1000);
    const live = spawn("docker", ["events", "--format", "{{.Type}} {{.Action}}", "-f", "container=watched"], {
      env: { ...process.env, DOCKER_HOST: daemon.host },
      stdio: ["ignore", "pipe", "ignore"],
    });
    let seen = "";
    live.stdout.on("data", (data: Buffer) => {
      seen += data.toString();
    });
    await sleep(500);
    await daemon.ok(["run", "--name", "watched", "--label", "k=v", "bb", "true"]);
    await daemon.ok(["volume", "create", "evented"]);
    await daemon.ok(["tag", "bb", "evented:1"]);
    await daemon.ok(["rm", "watched"]);
    await until(() => seen.includes("container destroy"), "the destroy event");
    live.kill();
    assert.deepEqual(seen.trim().split("\n"), [
      "container create",
      "container attach",
      "container start",
      "container die",
      "container destroy",
    ]);
    const past = (...filters: readonly string[]): Promise<readonly string[]> =>
      linesOf([
        ...["events", "--since", since, "--until", String(Date.now() / 1000), "--format", "{{.Type}} {{.Action}}"],
        ...filters.flatMap((filter) => ["-f", filter]),
      ]);
    assert.deepEqual(await past("type=volume"), ["volume create"]);
    assert.deepEqual(await past("event=die"), ["container die"]);
    assert.deepEqual(await past("label=k=v", "event=start"), ["container start"]);
    assert.deepEqual(await past("volume=evented"), ["volume create"]);
    assert.deepEqual(await past("image=evented:1"), ["image tag"]);
    assert.deepEqual(await past("container=nobody"), []);
    await daemon.ok(["volume", "rm", "evented"]);
    await daemon.ok(["rmi", "evented:1"]);
  });

  let deaf: Socket | undefined;

  test("attach: a client that does not read holds its container up, for a while", async () => {
    const line = "0123456789".repeat(20);
    const script = `i=0; while [ $i -lt 40000 ]; do echo $i-${line}; i=$((i+1)); done; echo end`;
    await daemon.ok(["create", "--name", "loud", "bb", "sh", "-c", script]);
    const upgrade = "Host: e\r\nConnection: Upgrade\r\nUpgrade: tcp";
    deaf = rawConnection(daemon, `POST /containers/loud/attach?stream=1&stdout=1 HTTP/1.1\r\n${upgrade}\r\n\r\n`);
    deaf.pause();
    await sleep(200);
    await daemon.ok(["start", "loud"]);
    await sleep(1000);
    assert.equal(await daemon.ok(["inspect", "-f", "{{.State.Status}}", "loud"]), "running");
  });

  test("cp: both ways, files, folders, links, owners, tars on stdin and stdout", async () => {
    const folder = join(scratch.path, "copied");
    mkdirSync(join(folder, "in/deep"), { recursive: true });
    writeFileSync(join(folder, "in/deep/file"), "content\n", { mode: 0o640 });
    symlinkSync("deep/file", join(folder, "in/link"));
    await daemon.ok(["run", "-d", "--name", "cp", "-v", "cpvol:/vol", "bb", "sleep", "600"]);
    await daemon.ok(["create", "--name", "stopped", "-v", "cpvol:/vol", "bb"]);
    for (const name of ["cp", "stopped"]) {
      await daemon.ok(["cp", join(folder, "in"), `${name}:/tmp/new`]);
      await daemon.ok(["cp", `${join(folder, "in")}/.`, `${name}:/tmp`]);
      await daemon.ok(["cp", join(folder, "in/deep/file"), `${name}:/vol/from-${name}`]);
      const out = join(folder, `out-${name}`);
      await daemon.ok(["cp", `${name}:/tmp/new`, out]);
      assert.equal(readFileSync(join(out, "deep/file"), "utf8"), "content\n");
      assert.equal(statSync(join(out, "deep/file")).mode & 0o777, 0o640);
      assert.equal(readlinkSync(join(out, "link")), "deep/file");
      await daemon.ok(["cp", "-L", `${name}:/tmp/link`, join(folder, `followed-${name}`)]);
      assert.equal(readFileSync(join(folder, `followed-${name}`), "utf8"), "content\n");
      const tar = await daemon.docker(["cp", `${name}:/tmp/deep`, "-"]);
      assert.match(tar.stdout, /deep\/file/);
      const input = tarOf({ name: "piped", content: "through stdin" });
      await daemon.ok(["cp", "-", `${name}:/root`], { input });
      assert.equal((await daemon.docker(["cp", `${name}:/root/piped`, "-"])).stdout.includes("through stdin"), true);
      assert.match((await daemon.docker(["cp", `${name}:/nowhere`, "-"])).stderr, /Could not find the file \/nowhere/);
      assert.match((await daemon.docker(["cp", folder, `${name}:/etc/passwd`])).stderr, /directory/);
    }
    assert.equal(await daemon.ok(["exec", "cp", "cat", "/vol/from-stopped", "/tmp/deep/file"]), "content\ncontent");
    await daemon.ok(["create", "--name", "sealed", "--read-only", "-v", "cpvol:/vol", "-v", "cpvol:/ro:ro", "bb"]);
    const sealed = (target: string) => daemon.docker(["cp", join(folder, "in/deep/file"), `sealed:${target}`]);
    assert.match((await sealed("/tmp/x")).stderr, /rootfs is marked read-only/);
    assert.match((await sealed("/ro/x")).stderr, /mounted volume is marked read-only/);
    assert.equal((await sealed("/vol/x")).code, 0);
    await daemon.ok(["rm", "-f", "cp", "stopped", "sealed"]);
    await daemon.ok(["volume", "rm", "cpvol"]);
  });

  type Client = { readonly child: ChildProcess; readonly said: () => string; readonly ended: Promise<number | null> };

  /** The docker CLI under a terminal of its own, as `script` gives it. */
  function onTerminal(...args: readonly string[]): Client {
    const child = spawn("script", ["-qfec", `docker ${args.join(" ")}`, "/dev/null"], {
      env: { ...process.env, DOCKER_HOST: daemon.host, TERM: "xterm" },
      stdio: ["pipe", "pipe", "ignore"],
    });
    let said = "";
    child.stdout?.on("data", (data: Buffer) => {
      said += data.toString();
    });
    const ended = new Promise<number | null>((resolve) => child.once("exit", (code) => resolve(code)));
    return { child, said: () => said, ended };
  }

  test("attach: stdin reaches a running container, and several clients see the same", async () => {
    const script = "while read l; do echo got $l; done; echo over";
    await daemon.ok(["create", "-i", "--name", "echo", "bb", "sh", "-c", script]);
    await daemon.ok(["start", "echo"]);
    const watching = daemon.ok(["attach", "--no-stdin", "echo"]);
    await sleep(300);
    assert.equal(await daemon.ok(["attach", "echo"], { input: "a line\n" }), "got a line\nover");
    assert.equal(await watching, "got a line\nover");
    await daemon.ok(["rm", "-f", "echo"]);
  });

  test("attach: the detach keys leave a terminal, and the container goes on", async (context) => {
    if (!existsSync("/usr/bin/script")) return context.skip("no script(1) is here");
    await daemon.ok(["run", "-dit", "--name", "term", "bb", "sh"]);
    const client = onTerminal("attach", "--detach-keys", "ctrl-a,x", "term");
    await sleep(500);
    client.child.stdin?.write("echo al''ive\n");
    await until(() => client.said().includes("alive"), client.said());
    client.child.stdin?.write(Buffer.from([1]));
    client.child.stdin?.write("x");
    await client.ended;
    assert.match(client.said(), /read escape sequence/);
    assert.equal(await daemon.ok(["inspect", "-f", "{{.State.Status}}", "term"]), "running");
    await daemon.ok(["rm", "-f", "term"]);
  });

  test("attach: a client that stops reading is cut off, and container and log go on", async () => {
    assert.equal(await daemon.ok(["wait", "loud"]), "0");
    assert.equal(await daemon.ok(["logs", "--tail", "1", "loud"]), "end");
    deaf?.destroy();
    await daemon.ok(["rm", "loud"]);
  });
});
