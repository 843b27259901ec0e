/**
 * Volumes that programs serve (gocryptfs, sshfs, rclone), through the docker CLI: filled from an image, used over a
 * killed daemon, shared, and gone with what served them. One daemon for all of them, one kill for all.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { busyboxTar, command, type Daemon, scratchFolder, startStrata, unmountBelow } from "./support/engine.ts";
import { processesBelow } from "./support/processes.ts";
import { asFlags, s3Options, sshfsOptions } from "./support/served-options.ts";
import { type Sshd, sshdProgram, startSshd } from "./support/sshd.ts";
import { type S3Server, startS3, swiftIsHere } from "./support/swift.ts";
import { tarOf } from "./support/tar-bytes.ts";
import { until } from "./support/until.ts";

const programs = ["/usr/bin/gocryptfs", "/usr/bin/sshfs", "/usr/bin/rclone", sshdProgram ?? ""];
const absent = !swiftIsHere || !programs.every(existsSync) ? "a program that mounts, or a server, is not here" : false;
const skip = process.getuid?.() === 0 ? absent : "the daemon needs root";

const drivers = ["encrypted", "sshfs", "s3"] as const;
const encryptionKey = "a key that nobody sees";
const strata = new URL("../bin/strata", import.meta.url).pathname;

describe("volumes that programs serve", { skip }, () => {
  const scratch = scratchFolder();
  const root = join(scratch.path, "strata");
  let daemon: Daemon;
  let sshd: Sshd;
  let s3: S3Server;

  before(async () => {
    [daemon, sshd, s3] = await Promise.all([
      startStrata({ root }),
      startSshd(join(scratch.path, "sshd")),
      startS3(join(scratch.path, "s3")),
    ]);
    await s3.makeBucket("volumes");
    await daemon.ok(["import", await busyboxTar(join(scratch.path, "bb.tar")), "bb"]);
    const files = [tarOf({ name: "d", type: "5", mode: 0o755 }, { name: "d/from-image", content: "filled" })];
    await daemon.ok(["import", "-", "files"], { input: Buffer.concat(files) });
    await daemon.docker(["build", "-q", "-t", "filled", "-"], { input: "FROM bb\nCOPY --from=files /d /d\n" });
  });

  after(async () => {
    await daemon?.docker(["rm", "-f", "-v", ...drivers.flatMap((name) => [`${name}-1`, `${name}-2`])]);
    await daemon?.stop();
    await unmountBelow(scratch.path);
    for (const { pid, line } of processesBelow(join(root, "data/volume-drivers")))
      if (/^(gocryptfs|sshfs|ssh|rclone) /.test(line)) process.kill(pid, "SIGKILL");
    await sshd?.[Symbol.asyncDispose]();
    await s3?.[Symbol.asyncDispose]();
    scratch[Symbol.dispose]();
  });

  function optionsOf(driver: string): readonly string[] {
    if (driver === "sshfs") {
      mkdirSync(join(scratch.path, "far"));
      return sshfsOptions(sshd, join(scratch.path, "far"));
    }
    if (driver === "s3") return s3Options(s3, { bucket: "volumes", prefix: "p" });
    writeFileSync(join(root, "data/secrets/volume-key"), encryptionKey, { mode: 0o600 });
    return ["key=@volume-key"];
  }

  const served = (driver: string): number[] =>
    processesBelow(join(root, "data/volume-drivers", driver))
      .filter(({ line }) => /^(gocryptfs|sshfs|rclone) /.test(line))
      .map(({ pid }) => pid);
  const mounted = (driver: string): number =>
    readFileSync(`/proc/${daemon.pid}/mountinfo`, "utf8").split(`/volume-drivers/${driver}/v-${driver}/_data `).length -
    1;
  const runs = (name: string, volume: string): Promise<string> =>
    daemon.ok(["run", "-d", "--network", "none", "--name", name, "-v", `${volume}:/d`, "filled", "sleep", "1000"]);
  const each = (work: (driver: (typeof drivers)[number]) => Promise<void>): Promise<unknown> =>
    Promise.all(drivers.map(work));

  test("the drivers are ready, and say what they are", async () => {
    const { stdout, code } = await command(strata, ["volume", "drivers", "-H", daemon.host]);
    assert.equal(code, 0);
    assert.match(stdout, /^NAME +SCOPE +SIZE +SNAPSHOTS +STATE$/m);
    assert.match(stdout, /^local +local /m);
    for (const [name, scope] of [
      ["encrypted", "local"],
      ["s3", "global"],
      ["sshfs", "global"],
    ])
      assert.match(stdout, new RegExp(`^${name} +${scope} +- .* ready$`, "m"));
    const json = await command(strata, ["volume", "drivers", "--json", "-H", daemon.host]);
    assert.ok((JSON.parse(json.stdout) as { Name: string }[]).some(({ Name }) => Name === "tmpfs"));
  });

  test("a volume is filled, and a killed daemon takes nothing from who uses it", async () => {
    for (const driver of drivers) {
      await daemon.ok(["volume", "create", "-d", driver, ...asFlags(optionsOf(driver)), `v-${driver}`]);
    }
    await each(async (driver) => {
      await runs(`${driver}-1`, `v-${driver}`);
      await daemon.ok(["exec", `${driver}-1`, "sh", "-c", "echo kept > /d/f"]);
    });
    const before = drivers.map(served);
    await daemon.kill();
    daemon = await startStrata({ root });
    assert.deepEqual(drivers.map(served), before, "the same programs serve");
    await each(async (driver) => {
      assert.equal(mounted(driver), 1, `${driver}: one mount`);
      assert.equal(await daemon.ok(["exec", `${driver}-1`, "cat", "/d/f", "/d/from-image"]), "kept\nfilled");
      await daemon.ok(["exec", `${driver}-1`, "sh", "-c", "echo more > /d/g"]);
      await runs(`${driver}-2`, `v-${driver}`);
      await daemon.ok(["rm", "-f", `${driver}-1`]);
      assert.equal(await daemon.ok(["exec", `${driver}-2`, "cat", "/d/f", "/d/g"]), "kept\nmore");
      assert.match((await daemon.docker(["volume", "rm", `v-${driver}`])).stderr, /volume is in use/);
    });
    assert.deepEqual(drivers.map(served), before, "and for a second container");
  });

  test("no secret is shown, and after the last use nothing is left but the data", async () => {
    const shown = [
      execFileSync("ps", ["axww"], { encoding: "utf8" }),
      daemon.log(),
      await daemon.ok(["volume", "inspect", ...drivers.map((driver) => `v-${driver}`)]),
      await daemon.ok(["events", "--since", "1", "--until", String(Math.floor(Date.now() / 1000))]),
    ].join("\n");
    for (const secret of [encryptionKey, s3.secret, "PRIVATE KEY"]) assert.ok(!shown.includes(secret), secret);
    await each(async (driver) => {
      await daemon.ok(["rm", "-f", `${driver}-2`]);
      await until(`${driver}: unmounted`, () => mounted(driver) === 0);
      await until(`${driver}: its program ends`, () => served(driver).length === 0);
    });
    assert.equal(readFileSync(join(scratch.path, "far/f"), "utf8"), "kept\n");
    assert.deepEqual(await s3.list("volumes/p"), ["f", "from-image", "g"]);
    await daemon.ok(["volume", "rm", ...drivers.map((driver) => `v-${driver}`)]);
    assert.deepEqual(await s3.list("volumes/p"), ["f", "from-image", "g"], "the server keeps it");
  });

  test("options are judged at create, by name, before anything is made", async () => {
    for (const [driver, option, says] of [
      ["encrypted", "key=clear-text-key", /the option key takes a reference: key=@\/path\/to\/file/],
      ["sshfs", "sshcmd=-oProxyCommand=x:/", /invalid value of the option host/],
      ["s3", "bucket=b", /missing required option: "endpoint"/],
    ] as const) {
      const { code, stderr } = await daemon.docker(["volume", "create", "-d", driver, "-o", option, "never"]);
      assert.notEqual(code, 0);
      assert.match(stderr, says);
      assert.ok(!stderr.includes("clear-text-key"));
    }
    assert.equal(await daemon.ok(["volume", "ls", "-q", "-f", "name=never"]), "");
  });
});
