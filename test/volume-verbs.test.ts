/** `strata volume ...` against a real daemon: containers that run meanwhile, and kill -9 in the middle of every long verb. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { pictureOf } from "../src/host/tree-picture.ts";
import { busyboxTar, type Daemon, scratchFolder, startStrata, succeed, unmountBelow } from "./support/engine.ts";
import { strataProgram, strataVolume } from "./support/strata-volume.ts";

const skip = process.getuid?.() === 0 ? false : "the daemon needs root";

describe("strata volume", { skip }, () => {
  const scratch = scratchFolder();
  const root = join(scratch.path, "strata");
  let daemon: Daemon;

  const { volume, ok } = strataVolume(() => daemon);
  const run = (volumeName: string, script: string): Promise<string> =>
    daemon.ok(["run", "--rm", "--network", "none", "-v", `${volumeName}:/d`, "bb", "sh", "-c", script]);
  const dataOf = (name: string): string => join(daemon.dataRoot, "volumes", name, "_data");
  const stateOf = (name: string): Promise<string> => daemon.ok(["inspect", "-f", "{{.State.Status}}", name]);
  const names = async (): Promise<readonly string[]> =>
    (await daemon.ok(["volume", "ls", "-q"])).split("\n").filter((name) => name !== "");

  before(async () => {
    daemon = await startStrata({ root });
    await daemon.ok(["import", await busyboxTar(join(scratch.path, "bb.tar")), "bb"]);
  });

  after(async () => {
    const ids = (await daemon.ok(["ps", "-aq"])).split("\n").filter((id) => id !== "");
    if (ids.length > 0) await daemon.ok(["rm", "-f", "-v", ...ids]);
    await daemon.stop();
    await unmountBelow(scratch.path);
    scratch[Symbol.dispose]();
  });

  /** Two files that one process changes together: at one moment they differ by one at most. */
  const writer =
    "n=0; while true; do n=$((n+1)); echo $n > /d/.new; mv /d/.new /d/first; echo $n > /d/.new; mv /d/.new /d/second; done";
  const isOneMoment = (path: string): boolean => {
    const [first, second] = ["first", "second"].map((name) => Number(readFileSync(join(path, name), "utf8")));
    return first === second || first === (second ?? 0) + 1;
  };

  test("a container that writes stands still for a clone and a snapshot only, and is told of in who", async () => {
    await daemon.ok(["run", "-d", "--network", "none", "--name", "writer", "-v", "v1:/d", "bb", "sh", "-c", writer]);
    await run("v1", "while ! test -e /d/second; do sleep 0.1; done; for i in $(seq 300); do echo $i > /d/f$i; done");
    for (let round = 0; round < 3; round++) {
      await ok("clone", "v1", `clone${round}`);
      assert.ok(isOneMoment(dataOf(`clone${round}`)), "a clone is of one moment");
      assert.equal(await stateOf("writer"), "running");
    }
    await ok("snapshot", "create", "v1", "first");
    assert.equal(await stateOf("writer"), "running");
    const said = readFileSync(join(dataOf("v1"), "first"), "utf8");
    for (let tries = 0; readFileSync(join(dataOf("v1"), "first"), "utf8") === said && tries < 200; tries++)
      await sleep(50);
    assert.notEqual(readFileSync(join(dataOf("v1"), "first"), "utf8"), said, "it goes on writing");
    const who = JSON.parse(await ok("who", "v1", "--json"));
    assert.deepEqual(
      [who[0].Containers[0].Name, who[0].Containers[0].Status, who[0].Containers[0].Mounts],
      ["writer", "running", [{ Destination: "/d", RW: true }]],
    );
    assert.match(who[0].UsedAt, /^\d{4}-/);
    for (const [args, words] of [
      [["snapshot", "restore", "v1", "first"], /writer runs with it/],
      [["rename", "v1", "other"], /containers refer to it by that name: writer/],
      [["clone", "v1", "clone0"], /clone0 exists already/],
      [["clone", "none", "x1"], /no such volume/],
      [["snapshot", "rm", "v1", "none"], /no snapshot none/],
      [["update", "v1", "-o", "bogus=1"], /bogus/],
      [["import", join(scratch.path, "bb.tar"), "x1"], /not a whole volume/],
      [["migrate", "v1", "--to", "none"], /none/],
    ] as const) {
      const { code, stderr } = await volume(...args);
      assert.notEqual(code, 0, args.join(" "));
      assert.match(stderr, words);
      assert.doesNotMatch(stderr, /\n\s+at /);
    }
    await daemon.ok(["rm", "-f", "writer"]);
    await ok("snapshot", "restore", "v1", "first");
    assert.ok(isOneMoment(dataOf("v1")));
    assert.match((await daemon.docker(["volume", "rm", "v1"])).stderr, /volume has snapshots \(first\)/);
    await ok("clone", "v1@first", "again");
    assert.deepEqual(pictureOf(dataOf("again")), pictureOf(dataOf("v1")));
    await daemon.ok(["volume", "rm", "-f", "v1", "again", "clone0", "clone1", "clone2"]);
    assert.deepEqual(await names(), []);
  });

  test("du agrees with du, and an export comes back through files and pipes, and through GNU tar", async () => {
    await run(
      "v1",
      "mkdir -p /d/a/b; seq 20000 > /d/a/b/f; ln /d/a/b/f /d/hard; ln -s f /d/a/b/l; chmod 4751 /d/a; dd if=/dev/zero of=/d/sparse bs=1 count=1 seek=50000000",
    );
    const [du] = JSON.parse(await ok("du", "v1", "--json"));
    const real = Number((await succeed("du", ["-s", "-B1", dataOf("v1")])).split("\t")[0]);
    const found = Number(
      (await succeed("sh", ["-c", `find ${dataOf("v1")} -printf '%i\\n' | sort -u | wc -l`])).trim(),
    );
    assert.deepEqual([du.Allocated, du.Inodes], [real, found]);
    const file = join(scratch.path, "v1.tar.zst");
    await ok("export", "v1", "-o", file);
    assert.ok(statSync(file).size < 1_000_000);
    await ok("import", file, "v2", "--label", "a=b");
    const piped = `${strataProgram} volume export -H ${daemon.host} v1 | ${strataProgram} volume import -H ${daemon.host} - v3`;
    await succeed("bash", ["-o", "pipefail", "-c", piped]);
    for (const name of ["v2", "v3"]) assert.deepEqual(pictureOf(dataOf(name)), pictureOf(dataOf("v1")));
    assert.ok(statSync(join(dataOf("v2"), "sparse")).blocks < 100);
    const unpacked = await succeed("bash", [
      "-c",
      `${strataProgram} volume export -H ${daemon.host} v1 | tar -tf - | sort`,
    ]);
    assert.deepEqual(unpacked.trim().split("\n"), [
      "./",
      "./a/",
      "./a/b/",
      "./a/b/f",
      "./a/b/l",
      "./hard",
      "./sparse",
      ".strata-volume.json",
    ]);
    const cut = `head -c $(( $(stat -c %s ${file}) / 2 )) ${file} | ${strataProgram} volume import -H ${daemon.host} - v4`;
    await assert.rejects(succeed("bash", ["-c", cut]), /broken|EOF/);
    assert.deepEqual(await names(), ["v1", "v2", "v3"]);
    await daemon.ok(["volume", "rm", "v1", "v2", "v3"]);
  });

  test("a migration stops who runs with the volume, and they go on with the new driver; docker sees it", async () => {
    const script =
      "test -e /d/kept || echo first > /d/kept; trap 'exit 0' TERM; echo started >> /d/starts; while true; do sleep 0.1; done";
    await daemon.ok(["run", "-d", "--network", "none", "--name", "user", "-v", "v1:/d", "bb", "sh", "-c", script]);
    await daemon.ok(["create", "--network", "none", "--name", "idle", "-v", "v1:/d:ro", "bb", "cat", "/d/kept"]);
    const moved = JSON.parse(await ok("migrate", "v1", "--to", "tmpfs", "-o", "size=64m", "--json"));
    assert.deepEqual([moved.From, moved.To, moved.Stopped], ["local", "tmpfs", ["user"]]);
    assert.equal(await stateOf("user"), "running");
    const inspected = await daemon.ok(["inspect", "-f", "{{range .Mounts}}{{.Driver}} {{.Source}}{{end}}", "user"]);
    assert.match(inspected, /^tmpfs .*\/volume-drivers\/tmpfs\/v1\/_data$/);
    assert.match(await daemon.ok(["exec", "user", "grep", " /d ", "/proc/mounts"]), / tmpfs /);
    assert.equal(
      await daemon.ok(["exec", "user", "sh", "-c", "cat /d/kept /d/starts | xargs"]),
      "first started started",
    );
    assert.equal(await daemon.ok(["start", "-a", "idle"]), "first");
    assert.ok(!existsSync(dataOf("v1")));
    await daemon.kill();
    daemon = await startStrata({ root });
    assert.equal(await daemon.ok(["exec", "user", "cat", "/d/kept"]), "first");
    await daemon.ok(["rm", "-f", "user", "idle"]);
    await daemon.ok(["volume", "rm", "v1"]);
  });

  test("kill -9 in the middle of a clone, import, snapshot or migration: the volume is whole, the half is gone, containers run", async () => {
    await run(
      "v1",
      "for i in $(seq 200); do mkdir /d/d$i; seq $i 2000 > /d/d$i/f; done; dd if=/dev/urandom of=/d/big bs=1M count=40",
    );
    const file = join(scratch.path, "big.tar");
    await ok("export", "v1", "-o", file);
    await daemon.ok([
      "run",
      "-d",
      "--network",
      "none",
      "--name",
      "user",
      "-v",
      "v1:/d:ro",
      "bb",
      "sh",
      "-c",
      "trap 'exit 0' TERM; while true; do sleep 0.1; done",
    ]);
    const expected = pictureOf(dataOf("v1"));
    const verbs: readonly (readonly string[])[] = [
      ["clone", "v1", "x1"],
      ["import", file, "x1"],
      ["snapshot", "create", "v1", "x1"],
      ["clone", "v1", "x1", "-d", "tmpfs"],
      ["migrate", "v1", "--to", "tmpfs"],
    ];
    for (const [index, args] of verbs.entries())
      for (const wait of [250, 700]) {
        const child = spawn(strataProgram, ["volume", ...args, "-H", daemon.host], { stdio: "ignore" });
        await sleep(wait + index * 20);
        await daemon.kill();
        child.kill("SIGKILL");
        daemon = await startStrata({ root });
        for (let tries = 0; (await stateOf("user")) !== "running" && tries < 200; tries++) await sleep(50);
        assert.equal(await stateOf("user"), "running", `${args.join(" ")} after ${wait} ms`);
        const made = (await names()).filter((name) => name !== "v1");
        const { driver } = await whole(expected, args.join(" "));
        for (const name of made) if (args[0] !== "migrate") await check(name, expected);
        if (made.length > 0) await daemon.ok(["volume", "rm", ...made]);
        for (const { Name } of JSON.parse(await ok("snapshot", "ls", "v1", "--json")))
          await ok("snapshot", "rm", "v1", Name);
        if (driver === "tmpfs") await ok("migrate", "v1", "--to", "local");
        assert.deepEqual(await names(), ["v1"]);
        assert.deepEqual(
          readdirSync(join(daemon.dataRoot, "volumes")).filter((name) => name !== "v1"),
          [],
        );
      }
    // what a killed migration left is gone on with
    await ok("migrate", "v1", "--to", "tmpfs");
    await whole(expected, "the end");
    await daemon.ok(["rm", "-f", "user"]);
    await daemon.ok(["volume", "rm", "v1"]);
  });

  async function whole(expected: unknown, what: string): Promise<{ readonly driver: string }> {
    const driver = await daemon.ok(["volume", "inspect", "-f", "{{.Driver}}", "v1"]);
    const path = await daemon.ok(["volume", "inspect", "-f", "{{.Mountpoint}}", "v1"]);
    const pid = await daemon.ok(["inspect", "-f", "{{.State.Pid}}", "user"]);
    assert.deepEqual(pictureOf(`/proc/${pid}/root/d`), expected, `${what}: ${path}`);
    return { driver };
  }

  /** What was acknowledged, or came to be all the same, is whole. */
  async function check(name: string, expected: unknown): Promise<void> {
    const path = await daemon.ok(["volume", "inspect", "-f", "{{.Mountpoint}}", name]);
    assert.deepEqual(pictureOf(path), expected, name);
  }
});
