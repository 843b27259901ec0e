/**
 * Docker volume plugins through the docker CLI: one written here, whose calls are counted, and rclone's, which nobody here
 * wrote. Create, run, cp, a restart of the daemon under a running container, a plugin that hangs or is gone, rm.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { startPlugin, type TestPlugin } from "../src/volume-driver/docker-plugin/plugin.fixture.ts";
import { call } from "./support/api.ts";
import { busyboxTar, type Daemon, scratchFolder, startStrata, unmountBelow } from "./support/engine.ts";
import { until } from "./support/until.ts";

const skip = process.getuid?.() === 0 ? false : "the daemon needs root";

describe("volume plugins", { skip }, () => {
  const scratch = scratchFolder();
  const sockets = join(scratch.path, "plugins");
  const data = join(scratch.path, "kept");
  const start = (): Promise<Daemon> =>
    startStrata({ root: join(scratch.path, "strata"), args: ["--plugin-dir", sockets] });
  let daemon: Daemon;
  let plugin: TestPlugin;
  let hung: TestPlugin;

  before(async () => {
    plugin = await startPlugin({ socket: join(sockets, "tdrv.sock"), data });
    hung = await startPlugin({ socket: join(sockets, "hung", "hung.sock"), data: join(scratch.path, "hung") });
    daemon = await start();
    await daemon.ok(["import", await busyboxTar(join(scratch.path, "bb.tar")), "bb"]);
  });

  after(async () => {
    await daemon.docker(["rm", "-f", "-v", "c1", "c2"]);
    await daemon.stop();
    await plugin.stop();
    await hung.stop();
    await unmountBelow(scratch.path);
    scratch[Symbol.dispose]();
  });

  test("a plugin that hangs does not hold up a kill or a stop of the engine; the next start gives the use back", async () => {
    await daemon.ok(["volume", "create", "-d", "tdrv", "v9"]);
    await daemon.ok(["run", "-d", "--network", "none", "--name", "c2", "-v", "v9:/data", "bb", "sleep", "1000"]);
    plugin.behaviour.set("Unmount", () => undefined);
    const waiting = plugin.methods().length;
    await daemon.ok(["kill", "c2"]);
    await until("the plugin was asked", () => plugin.methods().slice(waiting).includes("Unmount"));
    await daemon.stop();
    assert.match(daemon.log().trimEnd().split("\n").at(-1) ?? "", /the engine is down/, "it was not cut short");
    plugin.behaviour.delete("Unmount");
    daemon = await start();
    await until("the use is given back", () => held("v9") === 0);
    await daemon.ok(["rm", "c2"]);
    await daemon.ok(["volume", "rm", "v9"]);
  });

  const error = async (...args: readonly string[]): Promise<string> => (await daemon.docker(args)).stderr.trim();
  const held = (name: string): number => plugin.state.mounts.get(name)?.length ?? 0;

  test("a volume is made, used, copied from, kept over a restart of the daemon, and removed", async () => {
    await daemon.ok(["volume", "create", "-d", "tdrv", "-o", "a=b", "--label", "l=1", "v1"]);
    assert.deepEqual(plugin.state.volumes.get("v1"), { a: "b" });
    const [inspected] = JSON.parse(await daemon.ok(["volume", "inspect", "v1"]));
    assert.deepEqual(
      [
        inspected.Driver,
        inspected.Scope,
        inspected.Options,
        inspected.Labels,
        inspected.Status,
        inspected.CreatedAt.slice(0, 4),
      ],
      ["tdrv", "global", { a: "b" }, { l: "1" }, { healthy: true }, inspected.CreatedAt.slice(0, 4)],
    );
    await daemon.ok(["run", "-d", "--network", "none", "--name", "c1", "-v", "v1:/data", "bb", "sleep", "1000"]);
    await daemon.ok(["exec", "c1", "sh", "-c", "echo kept > /data/f"]);
    assert.equal(readFileSync(join(data, "v1", "f"), "utf8"), "kept\n");
    assert.equal(held("v1"), 1);
    await daemon.ok(["cp", "c1:/data/f", join(scratch.path, "copied")]);
    assert.equal(readFileSync(join(scratch.path, "copied"), "utf8"), "kept\n");
    assert.equal(held("v1"), 1, "the copy's use is given back, the container's is not");
    const ids = plugin.calls.filter(({ method }) => method.endsWith(".Mount")).map(({ body }) => JSON.parse(body).ID);
    assert.equal(new Set(ids).size, ids.length, "no id twice");
    await daemon.kill();
    daemon = await start();
    assert.equal(await daemon.ok(["exec", "c1", "cat", "/data/f"]), "kept");
    assert.equal(held("v1"), 1, "the use was taken up again");
    assert.match(await error("volume", "rm", "v1"), /volume is in use/);
    await daemon.ok(["rm", "-f", "c1"]);
    await until("the use is given back", () => held("v1") === 0);
    await daemon.ok(["volume", "rm", "v1"]);
    assert.equal(plugin.state.volumes.has("v1"), false);
    assert.equal(existsSync(join(data, "v1")), false);
  });

  test("an anonymous volume of --volume-driver goes with its container, and gets what the image has", async () => {
    const listed = await daemon.ok([
      "run",
      "--rm",
      "--network",
      "none",
      "--volume-driver",
      "tdrv",
      "-v",
      "/bin",
      "bb",
      "ls",
      "/bin",
    ]);
    assert.match(listed, /busybox/);
    const made = plugin.calls.find(({ method, body }) => method.endsWith(".Create") && /"[0-9a-f]{64}"/.test(body));
    assert.ok(made !== undefined);
    await until("it is removed", () => plugin.state.volumes.size === 0);
    assert.deepEqual(await daemon.ok(["volume", "ls", "-q"]), "");
  });

  test("what the plugin has by itself is listed, inspected, run with its data, and removed", async () => {
    plugin.state.volumes.set("theirs", null);
    mkdirSync(join(data, "theirs"));
    assert.equal(await daemon.ok(["volume", "ls", "--format", "{{.Driver}} {{.Name}}"]), "tdrv theirs");
    assert.equal(
      await daemon.ok([
        "run",
        "--rm",
        "--network",
        "none",
        "-v",
        "theirs:/d",
        "bb",
        "sh",
        "-c",
        "echo x >/d/f; cat /d/f",
      ]),
      "x",
    );
    assert.equal(await daemon.ok(["volume", "inspect", "-f", "{{.Driver}}", "theirs"]), "tdrv");
    assert.match(await error("volume", "create", "-d", "local", "theirs"), /volume name must be unique/);
    plugin.state.volumes.delete("theirs");
    assert.match(await error("volume", "inspect", "theirs"), /no such volume/);
    assert.equal(await daemon.ok(["volume", "ls", "-q"]), "");
    await daemon.ok(["volume", "create", "-d", "local", "theirs"]);
    await daemon.ok(["volume", "rm", "theirs"]);
  });

  test("a container that could not be made takes away what it made, and nothing that was there", async () => {
    plugin.state.volumes.set("theirs", null);
    mkdirSync(join(data, "theirs"), { recursive: true });
    const wrong = [
      "--mount",
      "type=volume,src=theirs,dst=/d,volume-driver=tdrv",
      "--mount",
      "type=bind,src=/nonexistent,dst=/e",
    ];
    assert.notEqual((await daemon.docker(["create", ...wrong, "bb"])).code, 0);
    plugin.behaviour.set("Mount", () => ({ Err: "not today" }));
    const both = ["-v", "theirs:/bin", "-v", "ours:/bin/x", "--volume-driver", "tdrv"];
    assert.match(await error("run", "--rm", "--network", "none", ...both, "bb", "true"), /not today/);
    plugin.behaviour.delete("Mount");
    assert.deepEqual([...plugin.state.volumes.keys()], ["theirs"]);
    await daemon.ok(["volume", "rm", "theirs"]);
  });

  test("failures have Docker's words, and unknown drivers are told at once", async () => {
    plugin.behaviour.set("Create", ({ response }) => void response.writeHead(500).end('{"Err":"boom500"}'));
    assert.match(await error("volume", "create", "-d", "tdrv", "vx"), /create vx: VolumeDriver.Create: boom500$/);
    plugin.behaviour.set("Create", () => ({ Err: "boom200" }));
    assert.match(await error("volume", "create", "-d", "tdrv", "vx"), /create vx: boom200$/);
    plugin.state.volumes.set("theirs", null);
    plugin.behaviour.set("Get", () => ({ Err: "offline" }));
    plugin.behaviour.set("Create", () => {
      plugin.behaviour.delete("Get");
      return { Err: "it is there already" };
    });
    assert.match(await error("volume", "create", "-d", "tdrv", "theirs"), /create theirs: it is there already$/);
    assert.equal(plugin.state.volumes.delete("theirs"), true, "what a create did not make it does not remove");
    plugin.behaviour.delete("Create");
    assert.match(
      await error("volume", "create", "-d", "neverheard", "v9"),
      /create v9: error looking up volume plugin neverheard: plugin "neverheard" not found$/,
    );
    assert.equal(await daemon.ok(["volume", "ls", "-q"]), "");
  });

  test("a plugin that hangs costs others nothing, and its volumes stay listed", async () => {
    await daemon.ok(["volume", "create", "-d", "hung", "stuck"]);
    for (const method of ["Get", "List", "Create", "Mount"]) hung.behaviour.set(method, () => undefined);
    const waiting = daemon.docker(["volume", "create", "-d", "hung", "never"]);
    await until("it waits", () => hung.methods().at(-1) === "Get");
    const { Volumes, Warnings } = JSON.parse((await call(daemon, { method: "GET", path: "/volumes" })).text);
    assert.deepEqual(
      Volumes.map(({ Name }: { Name: string }) => Name),
      ["stuck"],
    );
    const told = Warnings.filter((warning: string) => warning.startsWith("volume driver hung:"));
    assert.match(
      told.join(),
      /^volume driver hung: only volumes on record are shown: plugin "hung" did not answer VolumeDriver.List in time$/,
    );
    assert.equal(await daemon.ok(["volume", "ls", "-q"]), "stuck");
    await daemon.ok(["volume", "create", "-d", "tdrv", "other"]);
    await daemon.ok(["run", "--rm", "--network", "none", "-v", "other:/d", "bb", "true"]);
    await daemon.ok(["volume", "rm", "other"]);
    await daemon.kill();
    await waiting;
    daemon = await start();
    assert.equal(await daemon.ok(["volume", "ls", "-q"]), "stuck");
    hung.behaviour.clear();
  });

  test("a plugin that is gone is told by its name; what was taken while it was there is given back later", async () => {
    await daemon.ok(["volume", "create", "-d", "tdrv", "v2"]);
    await daemon.ok(["run", "-d", "--network", "none", "--name", "c2", "-v", "v2:/d", "bb", "sleep", "1000"]);
    const { state } = plugin;
    await plugin.stop();
    assert.match(
      await error("volume", "create", "-d", "tdrv", "v3"),
      /create v3: .*plugin "tdrv" (not found|cannot be reached)/,
    );
    await daemon.kill();
    daemon = await start();
    assert.match(await daemon.ok(["volume", "ls", "-q"]), /v2/);
    await daemon.ok(["rm", "-f", "c2"]);
    assert.match(await error("volume", "rm", "v2"), /plugin "tdrv"/);
    assert.equal(state.mounts.get("v2")?.length, 1);
    plugin = await startPlugin({ socket: join(sockets, "tdrv.sock"), data, state });
    await daemon.ok(["volume", "rm", "v2"]);
    assert.deepEqual([held("v2"), state.volumes.has("v2")], [0, false]);
  });
});

const rclone = ["/usr/bin/rclone", "/usr/local/bin/rclone"].find(existsSync);
const noRclone = rclone === undefined || !existsSync("/dev/fuse") ? "rclone or FUSE is not here" : skip;

describe("rclone as a volume plugin", { skip: noRclone }, () => {
  const scratch = scratchFolder();
  const sockets = join(scratch.path, "plugins");
  const mounts = join(scratch.path, "mounts");
  const store = join(scratch.path, "store");
  let daemon: Daemon;
  let served: ChildProcess;

  const serve = async (): Promise<ChildProcess> => {
    for (const folder of [sockets, mounts, store, join(scratch.path, "cache")]) mkdirSync(folder, { recursive: true });
    const places = [
      "--socket-addr",
      join(sockets, "rclone.sock"),
      "--base-dir",
      mounts,
      "--cache-dir",
      join(scratch.path, "cache"),
    ];
    const config = ["--config", join(scratch.path, "rclone.conf"), "--allow-other"];
    const child = spawn(rclone ?? "", ["serve", "docker", ...places, ...config], { stdio: "ignore" });
    await until("rclone listens", () => existsSync(join(sockets, "rclone.sock")));
    return child;
  };

  before(async () => {
    served = await serve();
    daemon = await startStrata({ root: join(scratch.path, "strata"), args: ["--plugin-dir", sockets] });
    await daemon.ok(["import", await busyboxTar(join(scratch.path, "bb.tar")), "bb"]);
  });

  after(async () => {
    await daemon.docker(["rm", "-f", "-v", "c1"]);
    await daemon.stop();
    served.kill("SIGTERM");
    if (served.exitCode === null && served.signalCode === null) await once(served, "exit");
    await unmountBelow(scratch.path);
    scratch[Symbol.dispose]();
  });

  test("create, run, cp while it runs, a killed daemon, rm", async () => {
    const options = [
      "-o",
      "type=local",
      "-o",
      `path=${store}`,
      "-o",
      "vfs-cache-mode=writes",
      "-o",
      "vfs-write-back=0s",
    ];
    await daemon.ok(["volume", "create", "-d", "rclone", ...options, "r1"]);
    await daemon.ok(["run", "-d", "--network", "none", "--name", "c1", "-v", "r1:/data", "bb", "sleep", "1000"]);
    await daemon.ok(["exec", "c1", "sh", "-c", "echo far > /data/f"]);
    // A stock dockerd uses one id twice here, which rclone refuses.
    await daemon.ok(["cp", "c1:/data/f", join(scratch.path, "copied")]);
    assert.equal(readFileSync(join(scratch.path, "copied"), "utf8"), "far\n");
    await until("it was written", () => readdirSync(store).includes("f"));
    await daemon.kill();
    daemon = await startStrata({ root: join(scratch.path, "strata"), args: ["--plugin-dir", sockets] });
    assert.equal(await daemon.ok(["exec", "c1", "cat", "/data/f"]), "far");
    await daemon.ok(["rm", "-f", "c1"]);
    await daemon.ok(["volume", "rm", "r1"]);
    assert.equal(await daemon.ok(["volume", "ls", "-q"]), "");
    assert.equal(readFileSync("/proc/self/mountinfo", "utf8").includes(mounts), false, "nothing stays mounted");
    assert.equal(readFileSync(join(store, "f"), "utf8"), "far\n");
  });
});
