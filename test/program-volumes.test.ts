/**
 * Volumes that programs serve (gocryptfs, sshfs, rclone), through the docker CLI: filled from an image, used over a
 * killed daemon, shared, and gone with what served them. One daemon for all of them, one kill for all.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { command, scratchFolder, startStrata, unmountBelow } from "./support/engine.ts";
import { processesBelow } from "./support/processes.ts";
import { asFlags, s3Options, sshfsOptions } from "./support/served-options.ts";
import { type Sshd, sshdProgram, startSshd } from "./support/sshd.ts";
import { type S3Server, startS3, swiftIsHere } from "./support/swift.ts";
import { until } from "./support/until.ts";
import { beginTogether, dropUses, endUses, makeFilled, type UsedWorld, useOverKill } from "./support/used-volumes.ts";

const programs = ["/usr/bin/gocryptfs", "/usr/bin/sshfs", "/usr/bin/rclone", sshdProgram ?? ""];
const absent = !swiftIsHere || !programs.every(existsSync) ? "a program that mounts, or a server, is not here" : false;
const skip = process.getuid?.() === 0 ? absent : "the daemon needs root";

const drivers = ["encrypted", "sshfs", "s3"] as const;
const together = 50;
const encryptionKey = "a key that nobody sees";
const strata = new URL("../bin/strata", import.meta.url).pathname;

describe("volumes that programs serve", { skip }, () => {
  const scratch = scratchFolder();
  const root = join(scratch.path, "strata");
  let world: UsedWorld;
  let sshd: Sshd;
  let s3: S3Server;

  before(async () => {
    [world, sshd, s3] = await Promise.all([
      startStrata({ root }).then((daemon) => ({ daemon, root, drivers: [] })),
      startSshd(join(scratch.path, "sshd")),
      startS3(join(scratch.path, "s3")),
    ]);
    await s3.makeBucket("volumes");
    await makeFilled(world.daemon, scratch.path, 0);
    const program = { encrypted: "gocryptfs", sshfs: "sshfs", s3: "rclone" };
    world.drivers = drivers.map((name) => ({ name, options: optionsOf(name), program: program[name] }));
  });

  after(async () => {
    if (world !== undefined) await dropUses(world);
    await unmountBelow(scratch.path);
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

  test("the drivers are ready, and say what they are", async () => {
    const { stdout, code } = await command(strata, ["volume", "drivers", "-H", world.daemon.host]);
    assert.equal(code, 0);
    assert.match(stdout, /^NAME +SCOPE +SIZE +SNAPSHOTS +STATE$/m);
    assert.match(stdout, /^local +local /m);
    for (const [name, scope] of [
      ["encrypted", "local"],
      ["s3", "global"],
      ["sshfs", "global"],
    ])
      assert.match(stdout, new RegExp(`^${name} +${scope} +- .* ready$`, "m"));
    const json = await command(strata, ["volume", "drivers", "--json", "-H", world.daemon.host]);
    assert.ok((JSON.parse(json.stdout) as { Name: string }[]).some(({ Name }) => Name === "tmpfs"));
  });

  test("a volume is filled, and a killed daemon takes nothing from who uses it", () => useOverKill(world));

  test("no secret is shown, and after the last use nothing is left but the data", async () => {
    const shown = [
      execFileSync("ps", ["axww"], { encoding: "utf8" }),
      world.daemon.log(),
      await world.daemon.ok(["volume", "inspect", ...drivers.map((driver) => `v-${driver}`)]),
      await world.daemon.ok(["events", "--since", "1", "--until", String(Math.floor(Date.now() / 1000))]),
    ].join("\n");
    for (const secret of [encryptionKey, s3.secret, "PRIVATE KEY"]) assert.ok(!shown.includes(secret), secret);
    await endUses(world);
    assert.equal(readFileSync(join(scratch.path, "far/f"), "utf8"), "kept\n");
    assert.deepEqual(await s3.list("volumes/p"), ["f", "from-image", "g"]);
    await world.daemon.ok(["volume", "rm", ...drivers.map((driver) => `v-${driver}`)]);
    assert.deepEqual(await s3.list("volumes/p"), ["f", "from-image", "g"], "the server keeps it");
  });

  test(`${together} containers that begin one volume on a server at once see the same whole tree`, async () => {
    const { daemon } = world;
    await makeFilled(daemon, scratch.path, 100);
    mkdirSync(join(scratch.path, "begun"));
    const options = asFlags(sshfsOptions(sshd, join(scratch.path, "begun")));
    await daemon.ok(["volume", "create", "-d", "sshfs", ...options, "begun"]);
    await beginTogether(daemon, "begun", together);
    await until("its program ends", () => processesBelow(join(root, "data/volume-drivers/sshfs/begun")).length === 0);
    assert.deepEqual(readdirSync(join(scratch.path, "begun")).sort(), ["from-image", "many"]);
    await daemon.ok(["volume", "rm", "begun"]);
  });

  test("options are judged at create, by name, before anything is made", async () => {
    for (const [driver, option, says] of [
      ["encrypted", "key=clear-text-key", /the option key takes a reference: key=@\/path\/to\/file/],
      ["sshfs", "sshcmd=-oProxyCommand=x:/", /invalid value of the option host/],
      ["s3", "bucket=b", /missing required option: "endpoint"/],
    ] as const) {
      const { code, stderr } = await world.daemon.docker(["volume", "create", "-d", driver, "-o", option, "never"]);
      assert.notEqual(code, 0);
      assert.match(stderr, says);
      assert.ok(!stderr.includes("clear-text-key"));
    }
    assert.equal(await world.daemon.ok(["volume", "ls", "-q", "-f", "name=never"]), "");
  });
});
