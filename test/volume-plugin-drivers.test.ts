/**
 * The drivers whose volumes a program serves, as a plugin of a stock dockerd and podman: an encrypted directory, a folder
 * over ssh, a bucket. Their programs outlive a killed plugin and a killed dockerd, and end with the last use.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { makeLoopFilesystem } from "../src/host/loop.ts";
import { mountTable } from "../src/host/mount.ts";
import {
  busyboxTar,
  command,
  type Daemon,
  dockerdIsHere,
  removeContainerdPid,
  scratchFolder,
  startDockerd,
  succeed,
  unmountBelow,
} from "./support/engine.ts";
import { type Podman, podmanIsHere, setUpPodman } from "./support/podman.ts";
import { endProcesses, processesBelow } from "./support/processes.ts";
import { asFlags, s3Options, sshfsOptions } from "./support/served-options.ts";
import { type Sshd, sshdProgram, startSshd } from "./support/sshd.ts";
import { type S3Server, startS3, swiftIsHere } from "./support/swift.ts";
import { until } from "./support/until.ts";
import { callPlugin, type Plugin, startPlugin, stockPlugin } from "./support/volume-plugin.ts";

const programs = ["/usr/bin/gocryptfs", "/usr/bin/sshfs", "/usr/bin/rclone", sshdProgram ?? ""];
const absent = !swiftIsHere || !programs.every(existsSync) ? "a program that mounts, or a server, is not here" : false;
const skip = process.getuid?.() === 0 ? absent : "the plugin needs root";

const { name: pluginName, socket: pluginSocket } = stockPlugin();
const drivers = ["encrypted", "sshfs", "s3"] as const;
type Driver = (typeof drivers)[number];
const encryptionKey = "a key that nobody sees";
const strata = new URL("../bin/strata", import.meta.url).pathname;

const placeOf = ({ dataRoot }: Plugin, driver: string): string =>
  join(dataRoot, "volume-drivers", driver, `v-${driver}`, "_data");
const mountsBelow = ({ dataRoot }: Plugin): readonly string[] =>
  mountTable().flatMap(({ target }) => (target.startsWith(`${dataRoot}/`) ? [target] : []));
/** The processes that serve the plugin's volumes (of a driver), by program. */
const served = ({ dataRoot }: Plugin, driver = ""): readonly string[] =>
  processesBelow(join(dataRoot, "volume-drivers", driver))
    .flatMap(({ pid, line }) => (/^(gocryptfs|sshfs|rclone) /.test(line) ? [`${line.split(" ")[0]} ${pid}`] : []))
    .sort();
/** Names of volumes, and of what is half made, that the drivers keep. */
const kept = ({ dataRoot }: Plugin): readonly string[] =>
  [...drivers, "btrfs", "tmpfs"].flatMap((driver) => readdirSync(join(dataRoot, "volume-drivers", driver)));

type World = { readonly scratch: string; readonly sshd: Sshd; readonly s3: S3Server; dockerd: Daemon; plugin: Plugin };

/** A key by its name in the plugin's own data root. */
function optionsOf({ scratch, sshd, s3, plugin }: World, driver: Driver): readonly string[] {
  if (driver === "s3") return s3Options(s3, { bucket: "volumes", prefix: "p" });
  if (driver === "sshfs") return sshfsOptions(sshd, join(scratch, "far"));
  writeFileSync(join(plugin.dataRoot, "secrets/volume-key"), `${encryptionKey}\n`, { mode: 0o600 });
  return ["key=@volume-key"];
}

const each = (work: (driver: Driver) => Promise<void>): Promise<unknown> => Promise.all(drivers.map(work));

async function makeVolumes(world: World): Promise<void> {
  const { dockerd } = world;
  mkdirSync(join(world.scratch, "far"));
  await world.s3.makeBucket("volumes");
  await each(async (driver) => {
    const options = asFlags([`driver=${driver}`, ...optionsOf(world, driver)]);
    await dockerd.ok(["volume", "create", "-d", pluginName, ...options, `v-${driver}`]);
    const format = "{{.Driver}} {{.Scope}} {{.Mountpoint}} {{.Status.driver}}";
    const shown = await dockerd.ok(["volume", "inspect", "-f", format, `v-${driver}`]);
    assert.equal(shown, `${pluginName} local ${placeOf(world.plugin, driver)} ${driver}`);
  });
  for (const [driver, option, says] of [
    ["encrypted", "key=clear-text-key", /create bad: VolumeDriver.Create: the option key takes a reference/],
    ["encrypted", "key=@nothing", /secrets\/nothing, which the option key refers to, is not there/],
    ["sshfs", "sshcmd=-oProxyCommand=x:/", /invalid value of the option host/],
    ["s3", "bucket=b", /missing required option: "endpoint"/],
  ] as const) {
    const flags = asFlags([`driver=${driver}`, option]);
    const { code, stderr } = await dockerd.docker(["volume", "create", "-d", pluginName, ...flags, "bad"]);
    assert.notEqual(code, 0);
    assert.match(stderr, says);
    assert.ok(!stderr.includes("clear-text-key"), stderr);
  }
  assert.deepEqual(served(world.plugin), [], "nobody uses them yet");
}

/** Soon no volume (of a driver) is mounted, and no program serves it. */
async function areUnused(plugin: Plugin, driver = ""): Promise<void> {
  const folder = join(plugin.dataRoot, "volume-drivers", driver, "/");
  await until(`nothing is mounted below ${folder}`, () => !mountsBelow(plugin).some((path) => path.startsWith(folder)));
  await until(`nothing serves below ${folder}`, () => served(plugin, driver).length === 0);
}

/** A dockerd that finds the container after a kill waits so long (s) for it to end. */
const stopTimeout = ["--stop-timeout", "1"];

async function runs({ dockerd }: World, name: string, driver: Driver): Promise<void> {
  const about = ["--network", "none", "--name", name, "-v", `v-${driver}:/d`];
  await dockerd.ok(["run", "-d", ...stopTimeout, ...about, "box", "sleep", "1000"]);
}

/** A copy out of a running container mounts with the container's id again, and unmounts once. */
async function useThem(world: World): Promise<void> {
  const { dockerd, plugin } = world;
  await each(async (driver) => {
    await runs(world, `${driver}-1`, driver);
    await dockerd.ok(["exec", `${driver}-1`, "sh", "-c", "echo first >/d/f"]);
    assert.equal(await dockerd.ok(["exec", `${driver}-1`, "cat", "/d/from-image"]), "filled", "the copy-up of dockerd");
    const reads = ["run", "--rm", "--network", "none", "-v", `v-${driver}:/d`, "box", "cat", "/d/f"];
    assert.equal(await dockerd.ok(reads), "first");
    await dockerd.ok(["cp", `${driver}-1:/d/f`, join(world.scratch, `copy-${driver}`)]);
    assert.equal(readFileSync(join(world.scratch, `copy-${driver}`), "utf8"), "first\n");
    assert.equal(await dockerd.ok(["exec", `${driver}-1`, "cat", "/d/f"]), "first");
    assert.notEqual((await dockerd.docker(["volume", "rm", `v-${driver}`])).code, 0);
    const direct = await callPlugin(plugin.socket, "VolumeDriver.Remove", { Name: `v-${driver}` });
    assert.match(String(direct.body.Err), /in use/);
  });
  assert.deepEqual([...mountsBelow(plugin)].sort(), drivers.map((driver) => placeOf(plugin, driver)).sort());
  assert.equal(served(plugin).length, drivers.length);
}

/** What the plugin's disk, its log, dockerd's and the machine's processes show. */
async function findSecrets({ dockerd, plugin, s3 }: World): Promise<void> {
  const direct = await Promise.all(
    drivers.map((driver) => callPlugin(plugin.socket, "VolumeDriver.Get", { Name: `v-${driver}` })),
  );
  const shown = [
    execFileSync("ps", ["axww"], { encoding: "utf8" }),
    plugin.log(),
    dockerd.log(),
    await dockerd.ok(["volume", "inspect", ...drivers.map((driver) => `v-${driver}`)]),
    JSON.stringify(direct),
    readFileSync(join(plugin.dataRoot, "meta.db"), "latin1"),
    readFileSync(join(plugin.dataRoot, "meta.db-wal"), "latin1"),
  ].join("\n");
  assert.ok(shown.includes("v-encrypted"));
  for (const secret of [encryptionKey, s3.secret, "PRIVATE KEY"]) assert.ok(!shown.includes(secret), secret);
}

async function killPlugin(world: World): Promise<void> {
  const before = served(world.plugin);
  await world.plugin.kill();
  const { dockerd } = world;
  const read = async (file: string): Promise<void> => {
    await each(async (driver) => {
      assert.equal(await dockerd.ok(["exec", `${driver}-1`, "cat", `/d/${file}`]), "first");
    });
  };
  await read("f");
  await each(async (driver) => {
    await dockerd.ok(["exec", `${driver}-1`, "sh", "-c", "echo first >/d/g"]);
  });
  world.plugin = await startPlugin(world.scratch, pluginSocket);
  const { plugin } = world;
  assert.deepEqual(served(plugin), before, "the same programs serve");
  assert.equal(mountsBelow(plugin).length, drivers.length, "each is mounted once");
  await read("g");
  await each(async (driver) => {
    await dockerd.ok(["cp", `${driver}-1:/d/g`, "-"]);
    await runs(world, `${driver}-2`, driver);
    await dockerd.ok(["rm", "-f", `${driver}-1`]);
    assert.equal(await dockerd.ok(["exec", `${driver}-2`, "cat", "/d/g"]), "first");
  });
  assert.deepEqual(served(plugin), before, "and for a second container, when the first is gone");
  await each(async (driver) => {
    await dockerd.ok(["stop", "-t", "0", `${driver}-2`]);
    await areUnused(plugin, driver);
    await dockerd.ok(["start", `${driver}-2`]);
  });
}

async function killDockerd(world: World): Promise<void> {
  await world.dockerd.kill();
  removeContainerdPid(world.dockerd);
  world.dockerd = await startDockerd(join(world.scratch, "dockerd"), join(world.scratch, "docker"), "vfs");
  const { dockerd, plugin } = world;
  await each(async (driver) => {
    await dockerd.ok(["start", `${driver}-2`]);
    assert.equal(
      await dockerd.ok(["exec", `${driver}-2`, "cat", "/d/f", "/d/g", "/d/from-image"]),
      "first\nfirst\nfilled",
    );
    await dockerd.ok(["rm", "-f", `${driver}-2`]);
  });
  await areUnused(plugin);
}

async function removeThem({ dockerd, plugin, scratch, s3 }: World): Promise<void> {
  const cipher = join(plugin.dataRoot, "volume-drivers/encrypted/v-encrypted/cipher");
  assert.ok(existsSync(join(cipher, "gocryptfs.conf")) && !readdirSync(cipher).includes("f"), "on disk only encrypted");
  await dockerd.ok(["volume", "rm", ...drivers.map((driver) => `v-${driver}`)]);
  assert.deepEqual(kept(plugin), []);
  assert.equal(readFileSync(join(scratch, "far/g"), "utf8"), "first\n", "the servers keep it");
  assert.deepEqual(await s3.list("volumes/p"), ["f", "from-image", "g"]);
}

type PodmanWorld = Pick<World, "scratch" | "sshd" | "s3"> & {
  readonly podman: Podman;
  readonly start: () => Promise<Plugin>;
};

async function usePodman({ podman, scratch, sshd, s3, start }: PodmanWorld): Promise<void> {
  let plugin = await start();
  await using stack = new AsyncDisposableStack();
  stack.defer(() => plugin.stop());
  const key = join(scratch, "key");
  writeFileSync(key, encryptionKey, { mode: 0o600 });
  await podman.ok(["volume", "create", "--driver", "strata", "-o", `key=@${key}`, "v-encrypted"]);
  await podman.ok(["volume", "create", "--driver", "strata", "-o", "driver=btrfs", "-o", "size=4m", "v-btrfs"]);
  mkdirSync(join(scratch, "far"));
  await s3.makeBucket("volumes");
  for (const [driver, options] of [
    ["sshfs", sshfsOptions(sshd, join(scratch, "far"))],
    ["s3", s3Options(s3, { bucket: "volumes", prefix: "p" })],
  ] as const)
    await podman.ok([
      "volume",
      "create",
      "--driver",
      "strata",
      ...asFlags([`driver=${driver}`, ...options]),
      `v-${driver}`,
    ]);
  const volumes = ["-v", "v-encrypted:/e", "-v", "v-btrfs:/b", "-v", "v-sshfs:/s", "-v", "v-s3:/o"];
  const files = ["/e/f", "/b/f", "/s/f", "/o/f"];
  const written = "first\nother\nfar\nobject";
  await podman.ok(["run", "-d", "--name", "one", ...volumes, "box", "sleep", "1000"]);
  await podman.ok(["exec", "one", "sh", "-c", "echo first >/e/f; echo other >/b/f; echo far >/s/f; echo object >/o/f"]);
  const full = await podman.run(["exec", "one", "dd", "if=/dev/urandom", "of=/b/big", "bs=1M", "count=8"]);
  assert.match(full.stderr, /quota exceeded/i);
  assert.equal(await podman.ok(["run", "--rm", ...volumes, "box", "cat", ...files]), written);
  await podman.ok(["cp", "one:/e/f", join(scratch, "copy")]);
  assert.equal(readFileSync(join(scratch, "copy"), "utf8"), "first\n");
  const shown = await podman.ok(["volume", "inspect", "v-encrypted", "v-sshfs", "v-s3"]);
  for (const driver of drivers) assert.ok(shown.includes(`"${driver}"`), shown);
  for (const secret of [encryptionKey, s3.secret, "PRIVATE KEY"]) assert.ok(!shown.includes(secret), shown);
  const before = served(plugin);
  assert.equal(before.length, drivers.length);
  await plugin.kill();
  assert.equal(await podman.ok(["exec", "one", "cat", ...files]), written);
  plugin = await start();
  assert.deepEqual(served(plugin), before, "the same programs serve");
  const places = drivers.map((driver) => placeOf(plugin, driver)).sort();
  assert.deepEqual([...mountsBelow(plugin)].sort(), places, "mounted once; the subvolume is no mount");
  await plugin.kill();
  for (const name of before) process.kill(Number(name.split(" ")[1]), "SIGKILL");
  await until("the programs are gone", () => served(plugin).length === 0);
  plugin = await start();
  for (const file of ["/e/f", "/s/f", "/o/f"])
    assert.notEqual((await podman.run(["exec", "one", "cat", file])).code, 0, "until the container is started again");
  await podman.ok(["stop", "-t", "0", "one"]);
  await podman.ok(["start", "one"]);
  assert.equal(await podman.ok(["exec", "one", "cat", ...files]), written);
  await podman.ok(["rm", "-f", "-t", "0", "one"]);
  await areUnused(plugin);
  assert.equal(await podman.ok(["run", "--rm", "-v", "v-encrypted:/e", "box", "cat", "/e/f"]), "first");
  await podman.ok(["volume", "rm", "v-btrfs", ...drivers.map((driver) => `v-${driver}`)]);
  assert.equal(readFileSync(join(scratch, "far/f"), "utf8"), "far\n", "the servers keep it");
  assert.deepEqual(await s3.list("volumes/p"), ["f"]);
  assert.deepEqual([kept(plugin), mountsBelow(plugin), served(plugin)], [[], [], []]);
}

/** busybox, and a directory that a volume is filled from. */
async function image(scratch: string): Promise<string> {
  const path = await busyboxTar(join(scratch, "box.tar"));
  mkdirSync(join(scratch, "image/d"), { recursive: true });
  writeFileSync(join(scratch, "image/d/from-image"), "filled\n");
  await succeed("tar", ["-rf", path, "-C", join(scratch, "image"), "./d"]);
  return path;
}

describe("volumes that programs serve, as a plugin", { skip }, () => {
  test("a stock dockerd uses them, over a killed plugin and a killed dockerd", {
    skip: !dockerdIsHere() && "no dockerd",
  }, async () => {
    using scratch = scratchFolder();
    await using stack = new AsyncDisposableStack();
    stack.defer(() => endProcesses(scratch.path));
    stack.defer(() => unmountBelow(scratch.path));
    const sshd = stack.use(await startSshd(join(scratch.path, "sshd")));
    const s3 = stack.use(await startS3(join(scratch.path, "s3")));
    const dockerd = await startDockerd(join(scratch.path, "dockerd"), join(scratch.path, "docker"), "vfs");
    const world: World = {
      scratch: scratch.path,
      sshd,
      s3,
      dockerd,
      plugin: await startPlugin(scratch.path, pluginSocket),
    };
    stack.defer(() => world.plugin.stop());
    stack.defer(() => world.dockerd.stop());
    await dockerd.ok(["import", await image(scratch.path), "box"]);
    await makeVolumes(world);
    await useThem(world);
    await findSecrets(world);
    await killPlugin(world);
    await killDockerd(world);
    await removeThem(world);
  });

  test("podman uses them, and one of btrfs with a limit, over a killed plugin and killed programs", {
    skip: !podmanIsHere() && "no podman",
  }, async () => {
    using scratch = scratchFolder();
    await using stack = new AsyncDisposableStack();
    stack.defer(() => unmountBelow(scratch.path));
    const disk = stack.use(await makeLoopFilesystem({ type: "btrfs", size: 256 << 20, directory: scratch.path }));
    stack.defer(() => endProcesses(scratch.path));
    const socket = join(scratch.path, "strata.sock");
    const podman = setUpPodman(join(scratch.path, "podman"), { plugins: { strata: socket } });
    await podman.ok(["import", await busyboxTar(join(scratch.path, "box.tar")), "box"]);
    const start = (): Promise<Plugin> => startPlugin(disk.path, socket, ["--driver", "encrypted,btrfs,sshfs,s3"]);
    const sshd = stack.use(await startSshd(join(scratch.path, "sshd")));
    const s3 = stack.use(await startS3(join(scratch.path, "s3")));
    await usePodman({ podman, scratch: scratch.path, sshd, s3, start });
  });
});

test("only the drivers that are named are offered, and one that is not there is refused with those that are", async () => {
  using scratch = scratchFolder();
  await using stack = new AsyncDisposableStack();
  stack.defer(() => unmountBelow(scratch.path));
  const socket = join(scratch.path, "strata.sock");
  const create = async (opts: object): Promise<string> =>
    String((await callPlugin(socket, "VolumeDriver.Create", { Name: "volume", Opts: opts })).body.Err);
  const scope = async (): Promise<unknown> => (await callPlugin(socket, "VolumeDriver.Capabilities")).body.Capabilities;
  {
    await using _plugin = await startPlugin(scratch.path, socket, ["--driver", "tmpfs, encrypted"]);
    for (const driver of ["local", "s3"])
      assert.equal(await create({ driver }), `no driver "${driver}" is served; driver= takes tmpfs, encrypted`);
    assert.match(await create({ driver: "encrypted" }), /^missing required option: "key"; /);
    assert.equal(await create({ size: "1m" }), "", "the first is the default");
    assert.deepEqual(await scope(), { Scope: "local" });
    const { Volumes } = (await callPlugin(socket, "VolumeDriver.List")).body;
    assert.deepEqual((Volumes as { Status: object }[])[0]?.Status, { driver: "tmpfs" });
  }
  {
    await using _plugin = await startPlugin(scratch.path, socket, ["--driver", "sshfs,s3"]);
    assert.deepEqual(await scope(), { Scope: "global" });
    const { body } = await callPlugin(socket, "VolumeDriver.Remove", { Name: "volume" });
    assert.equal(body.Err, "", "a volume of a driver that is offered no more is still known");
  }
  for (const [names, says] of [
    ["encrypted,nfs4", /no volume driver "nfs4"; there are local, tmpfs, btrfs, zfs, encrypted, s3, sshfs, nfs, cifs/],
    [" , ", /--driver names no driver/],
  ] as const) {
    const args = ["volume-plugin", "--data-root", join(scratch.path, "other"), "--socket", socket, "--driver", names];
    const { code, stderr } = await command(strata, args, { deadline: 60_000 });
    assert.equal(code, 1);
    assert.match(stderr, says);
    assert.ok(!existsSync(socket), "nobody listens");
  }
});
