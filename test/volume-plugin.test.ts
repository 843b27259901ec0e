/**
 * The volume drivers as a plugin of engines that are not ours: a stock dockerd and podman make, use and remove volumes,
 * with kill -9 of either side while a container runs. Nothing is mounted at the end.
 */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { startHungFuse } from "../src/host/hung-fuse.fixture.ts";
import { mountTable } from "../src/host/mount.ts";
import {
  busyboxTar,
  type Daemon,
  dockerdIsHere,
  removeContainerdPid,
  scratchFolder,
  startDockerd,
  unmountBelow,
} from "./support/engine.ts";
import { hungOptions } from "./support/hung-volumes.ts";
import { type Podman, podmanIsHere, setUpPodman } from "./support/podman.ts";
import { endProcesses } from "./support/processes.ts";
import { until } from "./support/until.ts";
import { callPlugin, type Plugin, startPlugin, stockPlugin } from "./support/volume-plugin.ts";

const { name: pluginName, socket: pluginSocket } = stockPlugin();

const mountsBelow = (path: string): string[] =>
  mountTable().flatMap(({ target }) => (target.startsWith(`${path}/`) ? [target] : []));

/** What the plugin's drivers keep: names of volumes, and of what is half made. */
const kept = ({ dataRoot }: Plugin): string[] =>
  ["volumes", "volume-drivers/tmpfs"].flatMap((folder) => readdirSync(join(dataRoot, folder)));

type World = { readonly scratch: string; dockerd: Daemon; plugin: Plugin };

async function makeVolumes({ dockerd, plugin }: World): Promise<void> {
  await dockerd.ok(["volume", "create", "-d", pluginName, "-o", "driver=tmpfs", "-o", "size=8m", "memory"]);
  await dockerd.ok(["volume", "create", "-d", pluginName, "plain"]);
  const mounted = ["-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=4m,mode=1777"];
  await dockerd.ok(["volume", "create", "-d", pluginName, ...mounted, "mounted"]);
  const format = "{{.Driver}} {{.Scope}} {{.Mountpoint}} {{.Status.driver}}";
  const place = join(plugin.dataRoot, "volume-drivers/tmpfs/memory/_data");
  assert.equal(await dockerd.ok(["volume", "inspect", "-f", format, "memory"]), `${pluginName} local ${place} tmpfs`);
  const refused = await dockerd.docker([
    "volume",
    "create",
    "-d",
    pluginName,
    "-o",
    "driver=tmpfs",
    "-o",
    "x=1",
    "bad",
  ]);
  assert.match(refused.stderr, /create bad: VolumeDriver.Create: invalid option: "x"; tmpfs has size, /);
  assert.notEqual((await dockerd.docker(["volume", "create", "-d", pluginName, "-o", "driver=nfs4", "bad"])).code, 0);
  assert.deepEqual((await dockerd.ok(["volume", "ls", "-q", "-f", `driver=${pluginName}`])).split("\n").sort(), [
    "memory",
    "mounted",
    "plain",
  ]);
}

/** A copy out of a running container mounts with the container's id again, and unmounts once. */
async function useThem({ dockerd, plugin }: World): Promise<void> {
  const volumes = ["-v", "memory:/m", "-v", "mounted:/o"];
  await dockerd.ok([
    "run",
    "-d",
    "--network",
    "none",
    "--name",
    "one",
    ...volumes,
    "-v",
    "plain:/etc",
    "box",
    "sleep",
    "1000",
  ]);
  await dockerd.ok(["exec", "one", "sh", "-c", "echo first >/m/f; echo other >/o/f; echo more >/etc/more"]);
  assert.match(await dockerd.ok(["exec", "one", "df", "-m", "/m"]), / 8 +\d/);
  assert.match(
    await dockerd.ok(["exec", "one", "cat", "/etc/passwd"]),
    /^root:/,
    "the image's directory was copied up",
  );
  await dockerd.ok(["run", "-d", "--network", "none", "--name", "two", ...volumes, "box", "sleep", "1000"]);
  assert.equal(await dockerd.ok(["exec", "two", "cat", "/m/f", "/o/f"]), "first\nother");
  await dockerd.ok(["rm", "-f", "two"]);
  for (const path of ["/m/f", "/o/f"]) await dockerd.ok(["cp", `one:${path}`, "-"]);
  const place = join(plugin.dataRoot, "volumes/mounted/_data");
  assert.deepEqual(
    mountsBelow(plugin.dataRoot).filter((path) => path === place),
    [place],
  );
  assert.notEqual((await dockerd.docker(["volume", "rm", "mounted"])).code, 0);
  const direct = await callPlugin(plugin.socket, "VolumeDriver.Remove", { Name: "mounted" });
  assert.match(String(direct.body.Err), /in use/);
}

async function killPlugin(world: World): Promise<void> {
  await world.plugin.kill();
  const { dockerd } = world;
  assert.equal(await dockerd.ok(["exec", "one", "cat", "/m/f", "/o/f", "/etc/more"]), "first\nother\nmore");
  world.plugin = await startPlugin(world.scratch, pluginSocket);
  const before = mountsBelow(world.plugin.dataRoot).sort();
  assert.equal(before.length, 2, "what the container uses is still mounted, once");
  await dockerd.ok(["cp", "one:/o/f", "-"]);
  assert.deepEqual(mountsBelow(world.plugin.dataRoot).sort(), before);
  assert.equal(
    await dockerd.ok(["run", "--rm", "--network", "none", "-v", "mounted:/o", "box", "cat", "/o/f"]),
    "other",
  );
  // its use began with the plugin that was killed
  await dockerd.ok(["stop", "-t", "0", "one"]);
  assert.deepEqual(
    mountsBelow(world.plugin.dataRoot),
    [join(world.plugin.dataRoot, "volume-drivers/tmpfs/memory/_data")],
    "memory keeps its data, the other is unmounted",
  );
  await dockerd.ok(["start", "one"]);
}

async function killDockerd(world: World): Promise<void> {
  await world.dockerd.kill();
  removeContainerdPid(world.dockerd);
  world.dockerd = await startDockerd(join(world.scratch, "dockerd"), join(world.scratch, "docker"), "vfs");
  const { dockerd } = world;
  await dockerd.ok(["start", "one"]);
  assert.equal(await dockerd.ok(["exec", "one", "cat", "/m/f", "/etc/more"]), "first\nmore");
  assert.deepEqual((await dockerd.ok(["volume", "ls", "-q", "-f", `driver=${pluginName}`])).split("\n").sort(), [
    "memory",
    "mounted",
    "plain",
  ]);
}

test("a stock dockerd uses the drivers as a plugin, and either side may be killed", {
  skip: !dockerdIsHere() && "no dockerd",
}, async () => {
  using scratch = scratchFolder();
  await using stack = new AsyncDisposableStack();
  stack.defer(() => unmountBelow(scratch.path));
  stack.defer(() => endProcesses(scratch.path));
  const dockerd = await startDockerd(join(scratch.path, "dockerd"), join(scratch.path, "docker"), "vfs");
  const world: World = { scratch: scratch.path, dockerd, plugin: await startPlugin(scratch.path, pluginSocket) };
  stack.defer(() => world.plugin.stop());
  stack.defer(() => world.dockerd.stop());
  await dockerd.ok(["import", await busyboxTar(join(scratch.path, "box.tar")), "box"]);
  await makeVolumes(world);
  await useThem(world);
  await killPlugin(world);
  await killDockerd(world);
  await world.dockerd.ok(["rm", "-f", "one"]);
  await world.dockerd.ok(["volume", "rm", "memory", "mounted", "plain"]);
  assert.deepEqual(kept(world.plugin), []);
  assert.deepEqual(mountsBelow(world.plugin.dataRoot), []);
  assert.equal(statSync(pluginSocket).mode & 0o777, 0o600);
  await world.plugin.stop();
  assert.ok(!existsSync(pluginSocket), "the socket is gone");
});

async function usePodman(podman: Podman, scratch: string, start: () => Promise<Plugin>): Promise<void> {
  let plugin = await start();
  await using stack = new AsyncDisposableStack();
  stack.defer(() => plugin.stop());
  await podman.ok(["volume", "create", "--driver", "strata", "-o", "driver=tmpfs", "-o", "size=8m", "memory"]);
  await podman.ok(["volume", "create", "--driver", "strata", "-o", "type=tmpfs", "-o", "device=tmpfs", "mounted"]);
  const refused = await podman.run(["volume", "create", "--driver", "strata", "-o", "driver=nope", "bad"]);
  assert.match(refused.stderr, /no driver "nope" is served/);
  assert.equal(
    await podman.ok(["volume", "inspect", "-f", "{{.Driver}} {{.Status.driver}}", "memory"]),
    "strata tmpfs",
  );
  const volumes = ["-v", "memory:/m", "-v", "mounted:/o"];
  await podman.ok(["run", "-d", "--name", "one", ...volumes, "box", "sleep", "1000"]);
  await podman.ok(["exec", "one", "sh", "-c", "echo first >/m/f; echo other >/o/f"]);
  assert.match(await podman.ok(["exec", "one", "df", "-m", "/m"]), / 8 +\d/);
  assert.equal(await podman.ok(["run", "--rm", ...volumes, "box", "cat", "/m/f", "/o/f"]), "first\nother");
  await podman.ok(["cp", "one:/o/f", join(scratch, "copy")]);
  assert.equal(readFileSync(join(scratch, "copy"), "utf8"), "other\n");
  await plugin.kill();
  assert.equal(await podman.ok(["exec", "one", "cat", "/m/f", "/o/f"]), "first\nother");
  plugin = await start();
  assert.equal(mountsBelow(plugin.dataRoot).length, 2);
  await podman.ok(["rm", "-f", "-t", "0", "one"]);
  assert.equal(mountsBelow(plugin.dataRoot).length, 1, "memory keeps its data, the other is unmounted");
  assert.equal(await podman.ok(["run", "--rm", "-v", "memory:/m", "box", "cat", "/m/f"]), "first");
  await podman.ok(["volume", "rm", "memory", "mounted"]);
  assert.deepEqual(kept(plugin), []);
  assert.deepEqual(mountsBelow(plugin.dataRoot), []);
}

test("podman uses the drivers as a plugin, which may be killed", { skip: !podmanIsHere() && "no podman" }, async () => {
  using scratch = scratchFolder();
  await using stack = new AsyncDisposableStack();
  stack.defer(() => unmountBelow(scratch.path));
  stack.defer(() => endProcesses(scratch.path));
  const socket = join(scratch.path, "strata.sock");
  const podman = setUpPodman(join(scratch.path, "podman"), { plugins: { strata: socket } });
  await podman.ok(["import", await busyboxTar(join(scratch.path, "box.tar")), "box"]);
  await usePodman(podman, scratch.path, () => startPlugin(scratch.path, socket));
});

test("a plugin that is killed amid many calls has what it acknowledged, and nothing half made", async () => {
  using scratch = scratchFolder();
  await using stack = new AsyncDisposableStack();
  stack.defer(() => unmountBelow(scratch.path));
  const socket = join(scratch.path, "strata.sock");
  const doomed = await startPlugin(scratch.path, socket);
  stack.defer(() => doomed.kill());
  const acknowledged: string[] = [];
  const { promise: some, resolve } = Promise.withResolvers<void>();
  const calls = Array.from({ length: 200 }, async (_, index) => {
    const Name = `volume-${index}`;
    const { status } = await callPlugin(socket, "VolumeDriver.Create", { Name });
    if (status === 200 && acknowledged.push(Name) === 20) resolve();
  });
  const settled = Promise.allSettled(calls);
  await some;
  await doomed.kill();
  await settled;
  await using plugin = await startPlugin(scratch.path, socket);
  const { Volumes } = (await callPlugin(socket, "VolumeDriver.List", {})).body as { Volumes: { Name: string }[] };
  const listed = new Set(Volumes.map(({ Name }) => Name));
  assert.deepEqual(
    acknowledged.filter((name) => !listed.has(name)),
    [],
  );
  assert.deepEqual(kept(plugin).sort(), [...listed].sort());
});

test("a server that never answers is given up at the plugin's own deadline, while other volumes are mounted", async () => {
  using scratch = scratchFolder();
  await using stack = new AsyncDisposableStack();
  stack.defer(() => unmountBelow(scratch.path));
  const fuse = stack.use(await startHungFuse());
  const Opts = await hungOptions(fuse, join(scratch.path, "asks"));
  const socket = join(scratch.path, "strata.sock");
  const plugin = await startPlugin(scratch.path, socket, ["--volume-deadline", "5"]);
  stack.use(plugin);
  const said = async (method: string, body: object): Promise<string> =>
    String((await callPlugin(socket, `VolumeDriver.${method}`, body)).body.Err);
  const hung = ["hung0", "hung1", "hung2"];
  for (const Name of hung) assert.equal(await said("Create", { Name, Opts }), "");
  assert.equal(await said("Create", { Name: "memory", Opts: { driver: "tmpfs" } }), "");
  let over = false;
  const mounting = Promise.all(hung.map((Name) => said("Mount", { Name, ID: "a" }))).then((all) => {
    over = true;
    return all;
  });
  await until("they hang", () => mountsBelow(plugin.dataRoot).length > 0);
  assert.equal(await said("Mount", { Name: "memory", ID: "a" }), "");
  assert.equal(await said("Unmount", { Name: "memory", ID: "a" }), "");
  assert.equal((await callPlugin(socket, "VolumeDriver.List", {})).status, 200);
  assert.ok(!over, "nobody waited for those that hang");
  for (const [index, words] of (await mounting).entries())
    assert.equal(words, `volume hung${index} of driver local did not answer within 5 s`);
  for (const Name of hung)
    assert.match(await said("Mount", { Name, ID: "a" }), /^volume hung\d of driver local does not answer since /);
  await fuse.wake();
  await until("it is answered", async () => (await said("Mount", { Name: "hung0", ID: "a" })) === "");
  assert.equal(await said("Unmount", { Name: "hung0", ID: "a" }), "");
  for (const Name of [...hung, "memory"]) assert.equal(await said("Remove", { Name }), "");
  assert.deepEqual(mountsBelow(plugin.dataRoot), []);
  assert.deepEqual(kept(plugin), []);
  await plugin.stop();
  for (const wrong of ["0", "ten"])
    await assert.rejects(
      startPlugin(scratch.path, socket, [`--volume-deadline=${wrong}`]),
      /--volume-deadline: Invalid/,
    );
});
