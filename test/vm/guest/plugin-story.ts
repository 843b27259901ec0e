/**
 * Run in the guest: `node plugin-story.js <device>`. Volumes on NFS 4.2 and SMB by `strata volume-plugin`, in a stock dockerd
 * and podman: filled from an image, shared, copied out of, over a killed plugin and a killed dockerd while containers go on
 * writing, and gone after the last use.
 *
 * Under qemu's interpreter everything is slow: times are printed, and deadlines are for what would never come.
 */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { mountTable } from "../../../src/host/mount.ts";
import { openCifsDriver } from "../../../src/volume-driver/cifs/driver.ts";
import { type OpenVolumeDriver, withVolumeDriver } from "../../../src/volume-driver/conformance-bench.ts";
import { openNfsDriver } from "../../../src/volume-driver/nfs/driver.ts";
import {
  type CommandResult,
  command,
  type Daemon,
  dockerdIsHere,
  launchDockerd,
  succeed,
} from "../../support/engine.ts";
import { podmanIsHere, setUpPodman } from "../../support/podman.ts";
import { processTexts } from "../../support/processes.ts";
import { asFlags } from "../../support/served-options.ts";
import { type Member, tarOf } from "../../support/tar-bytes.ts";
import { until } from "../../support/until.ts";
import { callPlugin, launchPlugin, type Plugin } from "../../support/volume-plugin.ts";
import { type Containerd, startContainerd } from "./containerd.ts";
import { nfsFolder, password, server, smbFolder, startServers } from "./servers.ts";

const patience = 600_000;
const root = "/data/plugin";
const socket = "/run/docker/plugins/strata.sock";
const passwordFile = "/run/password";
/** What of the password no quoting changes. */
const secret = "with everything";
/** What an engine's containers look at, so that they end. */
const signsOf = (engine: Engine): string => `/run/signs-${engine.name}`;

/** Driver -> options of a volume, but for its path, and where the server has that. */
const drivers = {
  nfs: { options: [`share=${server}:${nfsFolder}`, "version=4.2"], folder: nfsFolder },
  cifs: { options: [`share=//${server}/share`, "username=root", `password=@${passwordFile}`], folder: smbFolder },
} as const;
type Driver = keyof typeof drivers;
const names: readonly Driver[] = ["nfs", "cifs"];

/** An engine that others wrote. */
type Engine = {
  readonly name: string;
  readonly run: (args: readonly string[], input?: Uint8Array) => Promise<CommandResult>;
  /** Kills the engine and starts it again, where something runs that can be killed. */
  readonly kill: (() => Promise<void>) | undefined;
  readonly start: () => Promise<void>;
  /** Files and texts of the engine that must hold no secret. */
  readonly shown: () => readonly string[];
};

let plugin: Plugin;

async function timed<Value>(what: string, work: () => Promise<Value>): Promise<Value> {
  const begin = performance.now();
  try {
    return await work();
  } finally {
    console.log(`# ${what}: ${Math.round(performance.now() - begin)} ms`);
  }
}

const soon = (what: string, holds: () => boolean | Promise<boolean>): Promise<void> =>
  timed(what, () => until(what, holds, patience));

const startThePlugin = (): Promise<void> =>
  timed("the plugin starts", async () => {
    const args = ["--driver", "nfs,cifs", "--volume-deadline", "30"];
    plugin = await launchPlugin({ root, socket, args, patience: 1_200_000 });
  });

const any = async (engine: Engine, ...args: readonly string[]): Promise<CommandResult> =>
  timed(`${engine.name} ${args.slice(0, 3).join(" ")}`, () => engine.run(args));

/** Runs a command of the engine's CLI, which must succeed. */
async function ok(engine: Engine, ...args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await any(engine, ...args);
  assert.equal(code, 0, `${engine.name} ${args.join(" ")}: ${stderr}\n${plugin.log().slice(-2000)}`);
  return stdout.trim();
}

const volumeOf = (engine: Engine, driver: Driver): string => `${engine.name}-${driver}`;
const placeOf = (engine: Engine, driver: Driver): string =>
  join(plugin.dataRoot, "volume-drivers", driver, volumeOf(engine, driver), "_data");
const mounts = (): readonly string[] =>
  mountTable()
    .flatMap(({ target }) => (target.startsWith(`${root}/`) ? [target] : []))
    .sort();
const places = (engine: Engine): readonly string[] => names.map((driver) => placeOf(engine, driver)).sort();

/** A file of a volume, on the server. */
function onServer(engine: Engine, driver: Driver, file: string): string {
  const path = join(drivers[driver].folder, engine.name, file);
  return existsSync(path) ? readFileSync(path, "utf8") : "";
}

const lines = (engine: Engine, driver: Driver, writer: string): string[] =>
  onServer(engine, driver, `lines-${writer}`).split("\n").slice(0, -1);

async function goesOn(engine: Engine, writer: string): Promise<void> {
  const before = names.map((driver) => lines(engine, driver, writer).length);
  await soon(`${writer} writes on`, () =>
    names.every((driver, index) => lines(engine, driver, writer).length > (before[index] ?? 0)),
  );
}

const about = (engine: Engine): readonly string[] => [
  ...["--network", "none", "-v", `${signsOf(engine)}:/signs`],
  ...names.flatMap((driver) => ["-v", `${volumeOf(engine, driver)}:/${driver}`]),
];

/** A container that counts into a file of each volume, a line a time, until there is a sign with its name. */
async function begin(engine: Engine, writer: string): Promise<void> {
  const write = names.map((driver) => `echo $i >>/${driver}/lines-${writer}`).join(" && ");
  const script = `i=0; until [ -e /signs/${writer} ]; do i=$((i+1)); { ${write}; } || exit 1; sleep 2; done`;
  const args = ["-d", "--stop-timeout", "1", "--name", writer, ...about(engine), "box", "sh", "-c", script];
  await ok(engine, "run", ...args);
  await goesOn(engine, writer);
}

/** The writer ends by itself: no write failed, and every line is there once and in order. */
async function end(engine: Engine, writer: string): Promise<void> {
  writeFileSync(join(signsOf(engine), writer), "");
  assert.equal(await ok(engine, "wait", writer), "0");
  for (const driver of names) {
    const all = lines(engine, driver, writer);
    console.log(`# ${volumeOf(engine, driver)}: ${all.length} lines of ${writer}`);
    const counted = Object.keys(all).map((index) => `${Number(index) + 1}`);
    assert.deepEqual(all, counted, `${driver}: every line of ${writer} once, in order`);
  }
}

async function makeVolumes(engine: Engine): Promise<void> {
  for (const driver of names) {
    const options = asFlags([`driver=${driver}`, ...drivers[driver].options, `path=${engine.name}`]);
    await ok(engine, "volume", "create", "--driver", "strata", ...options, volumeOf(engine, driver));
    const format = "{{.Driver}} {{.Mountpoint}} {{.Status.driver}}";
    const shown = await ok(engine, "volume", "inspect", "-f", format, volumeOf(engine, driver));
    assert.match(shown, new RegExp(`^strata (${placeOf(engine, driver)})? ${driver}$`));
    assert.ok(!existsSync(join(drivers[driver].folder, engine.name)), "nothing is asked of the server before a use");
  }
  const clear = asFlags(["driver=cifs", `share=//${server}/share`, "username=root", "password=clear-text"]);
  const { code, stderr } = await any(engine, "volume", "create", "--driver", "strata", ...clear, "bad");
  assert.notEqual(code, 0);
  assert.match(stderr, /the option password takes a reference/);
  assert.ok(!stderr.includes("clear-text"), stderr);
  assert.deepEqual(mounts(), []);
}

/** While the first container begins every process is looked at, again and again. */
async function beginWatched(engine: Engine, writer: string): Promise<void> {
  let over = false;
  const seen = new Set<string>();
  const watch = async (): Promise<void> => {
    for (; !over; await sleep(100)) for (const text of processTexts()) seen.add(text);
  };
  const watching = watch();
  try {
    await begin(engine, writer);
  } finally {
    over = true;
    await watching;
  }
  assert.ok(seen.size > 0);
  for (const text of seen) assert.ok(!text.includes(secret), text);
}

async function share(engine: Engine): Promise<void> {
  for (const driver of names) assert.equal(onServer(engine, driver, "from-image"), "filled\n", "filled by the engine");
  assert.deepEqual(mounts(), places(engine), "each is mounted once");
  const see = names.map((driver) => `test "$(cat /${driver}/from-image)" = filled && test -s /${driver}/lines-one`);
  const write = names.map((driver) => `echo kept >/${driver}/f`);
  await ok(engine, "run", "--rm", ...about(engine), "box", "sh", "-c", [...see, ...write].join(" && "));
  for (const driver of names) {
    assert.equal(onServer(engine, driver, "f"), "kept\n");
    const copy = `/run/copy-${engine.name}-${driver}`;
    await ok(engine, "cp", `one:/${driver}/f`, copy);
    assert.equal(readFileSync(copy, "utf8"), "kept\n");
    assert.notEqual((await any(engine, "volume", "rm", volumeOf(engine, driver))).code, 0);
    const direct = await callPlugin(socket, "VolumeDriver.Remove", { Name: volumeOf(engine, driver) });
    assert.match(String(direct.body.Err), /in use/);
  }
  assert.deepEqual(mounts(), places(engine), "each once, after the end of another container and after a copy");
  await goesOn(engine, "one");
}

/** What the engine, the plugin, its disk and the kernel show. */
async function findSecrets(engine: Engine): Promise<void> {
  const volumes = names.map((driver) => volumeOf(engine, driver));
  const files = readdirSync(plugin.dataRoot, { recursive: true, encoding: "utf8" })
    .filter((name) => !name.includes("_data"))
    .map((name) => join(plugin.dataRoot, name))
    .filter((path) => statSync(path).isFile());
  assert.ok(files.length > 0);
  const direct = await Promise.all(volumes.map((Name) => callPlugin(socket, "VolumeDriver.Get", { Name })));
  const shown = [
    await ok(engine, "volume", "inspect", ...volumes),
    await ok(engine, "inspect", "one"),
    JSON.stringify(direct),
    plugin.log(),
    readFileSync("/proc/mounts", "utf8"),
    ...files.map((path) => readFileSync(path, "latin1")),
    ...engine.shown(),
  ].join("\n");
  assert.ok(shown.includes(volumeOf(engine, "cifs")) && shown.includes("username=root"));
  assert.ok(!shown.includes(secret));
}

/** Kills what a container uses; it goes on, and what comes after knows it. */
async function killPlugin(engine: Engine): Promise<void> {
  await plugin.kill();
  await goesOn(engine, "one");
  await startThePlugin();
  assert.deepEqual(mounts(), places(engine), "what the container uses is still mounted, once");
  await goesOn(engine, "one");
  await begin(engine, "two");
  assert.deepEqual(mounts(), places(engine), "one mount for both");
  await end(engine, "one");
  await ok(engine, "rm", "-f", "one");
  assert.deepEqual(mounts(), places(engine), "the end of the first leaves the second what it uses");
  await goesOn(engine, "two");
}

async function killEngine(engine: Engine, kill: () => Promise<void>): Promise<void> {
  await kill();
  await goesOn(engine, "two");
  await engine.start();
  await ok(engine, "start", "two");
  await goesOn(engine, "two");
  assert.deepEqual(mounts(), places(engine));
}

async function removeAll(engine: Engine): Promise<void> {
  await ok(engine, "rm", "-f", "two");
  await soon("after the last use nothing is mounted", () => mounts().length === 0);
  assert.doesNotMatch(readFileSync("/proc/self/mountinfo", "utf8"), / - (nfs4|cifs) /);
  const reads = names.map((driver) => `/${driver}/f`);
  assert.equal(await ok(engine, "run", "--rm", ...about(engine), "box", "cat", ...reads), "kept\nkept");
  await soon("and after another one", () => mounts().length === 0);
  for (const driver of names) {
    await ok(engine, "volume", "rm", volumeOf(engine, driver));
    assert.deepEqual(readdirSync(join(plugin.dataRoot, "volume-drivers", driver)), []);
    assert.equal(onServer(engine, driver, "f"), "kept\n", "the server keeps it");
  }
}

/** The first use of a driver compiles what its children run, and dockerd has two minutes for a mount. */
async function warm(driver: Driver, open: OpenVolumeDriver): Promise<void> {
  const words = [...drivers[driver].options, "path=warm"].map((option): [string, string] => {
    const at = option.indexOf("=");
    return [option.slice(0, at), option.slice(at + 1)];
  });
  const spec = { name: "warm", options: Object.fromEntries(words) };
  await timed(`first use of ${driver}`, () =>
    withVolumeDriver(open, async (bench) => {
      await bench.driver.create(spec);
      await bench.driver.mount(spec, "use");
      await bench.driver.unmount(spec, "use");
      await bench.driver.remove(spec);
    }),
  );
}

/** busybox, and a directory for each volume to be filled from. */
function image(): Buffer {
  const links = ["sh", "cat", "sleep", "test", "echo"].map(
    (name): Member => ({ name: `bin/${name}`, type: "2", target: "busybox" }),
  );
  const filled = names.flatMap((name): Member[] => [
    { name, type: "5", mode: 0o755 },
    { name: `${name}/from-image`, content: "filled\n" },
  ]);
  return tarOf({ name: "bin/busybox", content: readFileSync("/usr/bin/busybox"), mode: 0o755 }, ...links, ...filled);
}

let containerd: Containerd | undefined;
let daemon: Daemon;

const docker: Engine = {
  name: "docker",
  run: (args, input) => daemon.docker(args, { deadline: patience, ...(input === undefined ? {} : { input }) }),
  start: () =>
    timed("dockerd starts", async () => {
      containerd ??= await startContainerd("/data/containerd");
      const args = ["--containerd", containerd.address];
      const folders = { root: "/data/dockerd", dataRoot: "/data/docker" };
      daemon = await launchDockerd({ ...folders, driver: "overlay2", args, patience: 1_200_000 });
    }),
  kill: () => daemon.kill(),
  shown: () => [daemon.log(), readFileSync("/data/docker/volumes/metadata.db", "latin1")],
};

const podmanRoot = "/data/podman";
const podman: Engine = {
  name: "podman",
  run: (args, input) => {
    const { args: first, env } = setUpPodman(podmanRoot, { plugins: { strata: socket }, pluginTimeout: 120 });
    return command("podman", [...first, ...args], {
      env,
      deadline: patience,
      ...(input === undefined ? {} : { input }),
    });
  },
  start: async () => undefined,
  kill: undefined,
  shown: () => [],
};

describe("volumes of servers by the plugin", () => {
  before(async () => {
    process.env.NODE_COMPILE_CACHE = "/tmp/compiled";
    writeFileSync(passwordFile, password, { mode: 0o600 });
    await startServers(process.argv[2] ?? "");
    mkdirSync(root);
    // Before dockerd is given one of its own there: the plugin is asked first.
    mkdirSync("/run/docker");
    await succeed("mount", ["-t", "tmpfs", "tmpfs", "/run/docker"]);
    await warm("nfs", openNfsDriver);
    await warm("cifs", openCifsDriver);
    await startThePlugin();
  });

  after(async () => {
    await daemon?.stop();
    await containerd?.[Symbol.asyncDispose]();
    await plugin.stop();
    assert.ok(!existsSync(socket), "the plugin's socket is gone");
  });

  const engines = [
    [docker, dockerdIsHere() || "no dockerd"],
    [podman, podmanIsHere() || "no podman"],
  ] as const;
  for (const [engine, here] of engines) {
    const skip = here === true ? false : here;
    let next = true;
    const step = (title: string, work: () => Promise<void>): Promise<void> =>
      test(`${engine.name}: ${title}`, { skip }, async (context) => {
        if (!next) return context.skip("a step before it failed");
        next = false;
        await work();
        next = true;
      });
    void step("volumes are made, and a secret is a reference", async () => {
      mkdirSync(signsOf(engine));
      await engine.start();
      const imported = await engine.run(["import", "-", "box"], image());
      assert.equal(imported.code, 0, imported.stderr);
      await makeVolumes(engine);
    });
    void step("they are filled from the image, and every use but the last leaves them", async () => {
      await beginWatched(engine, "one");
      await share(engine);
    });
    void step("no secret is shown", () => findSecrets(engine));
    void step("a kill of the plugin takes nothing from who runs", () => killPlugin(engine));
    const { kill } = engine;
    if (kill !== undefined) void step("nor does a kill of the engine", () => killEngine(engine, kill));
    void step("after the last use nothing is mounted, and the servers keep the data", () => removeAll(engine));
  }
});
