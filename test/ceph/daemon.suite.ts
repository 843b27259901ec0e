/**
 * Volumes on CephFS through the docker CLI (`npm run test:ceph`): filled from an image, used over a killed daemon, with a
 * cluster that goes away and comes back, and by a stock dockerd through the plugin.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { type Ceph, startCeph } from "../support/ceph.ts";
import {
  busyboxTar,
  type Daemon,
  dockerdIsHere,
  scratchFolder,
  startDockerd,
  startStrata,
  unmountBelow,
} from "../support/engine.ts";
import { processesBelow } from "../support/processes.ts";
import { asFlags } from "../support/served-options.ts";
import { tarOf } from "../support/tar-bytes.ts";
import { until } from "../support/until.ts";
import { startPlugin, stockPlugin } from "../support/volume-plugin.ts";

describe("ceph volumes of containers", () => {
  const scratch = scratchFolder();
  const root = join(scratch.path, "strata");
  let cluster: Ceph;
  let daemon: Daemon;

  before(async () => {
    [cluster, daemon] = await Promise.all([startCeph(join(scratch.path, "cluster")), startStrata({ root })]);
    await daemon.ok(["import", await busyboxTar(join(scratch.path, "bb.tar")), "bb"]);
    const files = [tarOf({ name: "d", type: "5", mode: 0o755 }, { name: "d/from-image", content: "filled" })];
    await daemon.ok(["import", "-", "files"], { input: Buffer.concat(files) });
    await daemon.docker(["build", "-q", "-t", "filled", "-"], { input: "FROM bb\nCOPY --from=files /d /d\n" });
  });
  after(async () => {
    cluster?.thaw("mon", "osd", "mds");
    await daemon?.docker(["rm", "-f", "-v", "one", "two", "near"]);
    await daemon?.stop();
    await unmountBelow(scratch.path);
    for (const { pid, line } of processesBelow(scratch.path))
      if (/^ceph-fuse /.test(line)) process.kill(pid, "SIGKILL");
    await cluster?.[Symbol.asyncDispose]();
    scratch[Symbol.dispose]();
  });

  const optionsOf = (path: string, secret: string): readonly string[] =>
    asFlags([`mons=${cluster.v2}`, "user=app", `secret=${secret}`, `fs=${cluster.fs}`, `path=${path}`]);
  const served = (below = root): number[] =>
    processesBelow(below)
      .filter(({ line }) => line.startsWith("ceph-fuse "))
      .map(({ pid }) => pid);
  const runs = (name: string, volume: string): Promise<string> =>
    daemon.ok(["run", "-d", "--network", "none", "--name", name, "-v", `${volume}:/d`, "filled", "sleep", "1000"]);

  test("a volume is filled, and a killed daemon takes nothing from who uses it", async () => {
    writeFileSync(join(root, "data/secrets/shop"), cluster.key("app").text, { mode: 0o600 });
    await daemon.ok(["volume", "create", "-d", "ceph", ...optionsOf("/shop/db", "@shop"), "far"]);
    await runs("one", "far");
    await daemon.ok(["exec", "one", "sh", "-c", "echo kept > /d/f; chown 5:6 /d/f"]);
    const before = served();
    assert.equal(before.length, 1);
    await daemon.kill();
    daemon = await startStrata({ root });
    assert.deepEqual(served(), before, "the same program serves");
    assert.equal(await daemon.ok(["exec", "one", "cat", "/d/f", "/d/from-image"]), "kept\nfilled");
    await runs("two", "far");
    await daemon.ok(["rm", "-f", "one"]);
    assert.equal(await daemon.ok(["exec", "two", "stat", "-c", "%u:%g", "/d/f"]), "5:6");
    assert.match((await daemon.docker(["volume", "rm", "far"])).stderr, /volume is in use/);
    assert.deepEqual(served(), before);
  });

  test("a cluster that is away holds up its own containers alone, and goes on when it is back", async () => {
    await daemon.ok(["exec", "two", "sh", "-c", "echo started > /d/log; sync -f /d/log"]);
    cluster.freeze("mon", "osd", "mds");
    await daemon.ok(["exec", "-d", "two", "sh", "-c", "mkdir /d/later && echo done > /d/later/f"]);
    const since = performance.now();
    await daemon.ok(["run", "--rm", "--network", "none", "--name", "near", "-v", "near:/d", "bb", "touch", "/d/f"]);
    await daemon.ok(["volume", "ls", "-q"]);
    await daemon.ok(["volume", "inspect", "far"]);
    await daemon.ok(["ps", "-a", "-s"]);
    await daemon.ok(["system", "df", "-v"]);
    process.stdout.write(`what others did beside it took ${Math.round(performance.now() - since)} ms\n`);
    const { code, stderr } = await daemon.docker([
      "run",
      "--rm",
      "--network",
      "none",
      ...newVolume("never"),
      "bb",
      "true",
    ]);
    assert.notEqual(code, 0);
    assert.match(stderr, /none of the monitors 127.0.0.1:\d+ answers/);
    cluster.thaw("mon", "osd", "mds");
    const isDone = async (): Promise<boolean> =>
      (await daemon.docker(["exec", "two", "cat", "/d/later/f"])).stdout === "done\n";
    await until("what waited is done", isDone);
    await daemon.ok(["volume", "rm", "near"]);
  });

  const newVolume = (name: string): readonly string[] => {
    const words = [`mons=${cluster.v2}`, "user=app", "secret=@shop", `fs=${cluster.fs}`, "path=/other"];
    const given = words.map((word) => `volume-opt=${word}`).join(",");
    return ["--mount", `type=volume,src=${name},dst=/d,volume-driver=ceph,${given}`];
  };

  test("the key is shown nowhere, and after the last use nothing is left but the data", async () => {
    const { text } = cluster.key("app");
    const shown = [
      execFileSync("ps", ["axeww"], { encoding: "utf8" }),
      daemon.log(),
      await daemon.ok(["volume", "inspect", "far"]),
      await daemon.ok(["inspect", "two"]),
      await daemon.ok(["events", "--since", "1", "--until", String(Math.floor(Date.now() / 1000))]),
      ...["meta.db", "meta.db-wal"].map((name) => readFileSync(join(root, "data", name), "latin1")),
    ].join("\n");
    assert.ok(shown.includes("secret=@shop") || shown.includes('"@shop"'), "the reference is");
    assert.ok(!shown.includes(text.slice(0, -4)));
    await daemon.ok(["rm", "-f", "two"]);
    await until("its program ends", () => served().length === 0);
    await daemon.ok(["volume", "rm", "far"]);
    await daemon.ok(["run", "--rm", "--network", "none", ...newVolume("again"), "bb", "true"]);
    assert.equal(await daemon.ok(["run", "--rm", "-v", "again:/d", "bb", "ls", "/d"]), "");
    await daemon.ok(["volume", "rm", "again"]);
  });

  test("a stock dockerd uses it through the plugin, which may be killed", {
    skip: !dockerdIsHere() && "no dockerd",
  }, async () => {
    await using stack = new AsyncDisposableStack();
    const place = join(scratch.path, "stock");
    mkdirSync(place);
    const { name, socket } = stockPlugin();
    const dockerd = await startDockerd(join(place, "dockerd"), join(place, "docker"), "vfs");
    stack.defer(() => dockerd.stop());
    let plugin = await startPlugin(place, socket, ["--driver", "ceph"]);
    stack.defer(() => plugin.stop());
    await dockerd.ok(["import", join(scratch.path, "bb.tar"), "bb"]);
    const flags = [
      "driver=ceph",
      `mons=${cluster.v1}`,
      "user=app",
      `secret=@${cluster.key("app").keyring}`,
      "path=/shop/db",
    ];
    await dockerd.ok(["volume", "create", "-d", name, ...asFlags(flags), "far"]);
    await dockerd.ok(["run", "-d", "--network", "none", "--name", "box", "-v", "far:/d", "bb", "sleep", "1000"]);
    assert.equal(await dockerd.ok(["exec", "box", "cat", "/d/f", "/d/from-image", "/d/later/f"]), "kept\nfilleddone");
    const before = served(place);
    await plugin.kill();
    await dockerd.ok(["exec", "box", "sh", "-c", "echo more > /d/g"]);
    plugin = await startPlugin(place, socket, ["--driver", "ceph"]);
    assert.deepEqual(served(place), before, "the same program serves");
    assert.equal(await dockerd.ok(["run", "--rm", "--network", "none", "-v", "far:/d", "bb", "cat", "/d/g"]), "more");
    const shown = `${plugin.log()}${dockerd.log()}${await dockerd.ok(["volume", "inspect", "far"])}`;
    assert.ok(!shown.includes(cluster.key("app").text.slice(0, -4)));
    await dockerd.ok(["rm", "-f", "box"]);
    await until("its program ends", () => served(place).length === 0);
    await dockerd.ok(["volume", "rm", "far"]);
  });
});
