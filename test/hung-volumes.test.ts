/**
 * Volumes whose server never answers, through the daemon: many at once, and nobody who does not want them notices. They
 * are named, refused at once, work again once they are answered, and outlive neither the daemon nor its kill.
 *
 * Deadlines here are for what would wait for ever, not for what is slow.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { type HungFuse, startHungFuse } from "../src/host/hung-fuse.fixture.ts";
import { startPlugin } from "../src/volume-driver/docker-plugin/plugin.fixture.ts";
import { type Answer, call } from "./support/api.ts";
import { busyboxTar, type Daemon, pluginFolderOf, scratchFolder, startStrata, unmountBelow } from "./support/engine.ts";
import { hungOptions } from "./support/hung-volumes.ts";
import { processesBelow } from "./support/processes.ts";
import { tarOf } from "./support/tar-bytes.ts";
import { until } from "./support/until.ts";

const skip = process.getuid?.() === 0 && existsSync("/dev/fuse") ? false : "the daemon needs root, and FUSE";
const count = 64;
/** Milliseconds for what does not want a volume that hangs. */
const patience = { deadline: 60_000 };
const hung = Array.from({ length: count }, (_, index) => `hung${index}`);

describe("volumes that hang", { skip }, () => {
  const scratch = scratchFolder();
  const root = join(scratch.path, "strata");
  const daemons: number[] = [];
  let fuse: HungFuse;
  let driverOptions: object;
  let daemon: Daemon;

  const start = async (): Promise<void> => {
    daemon = await startStrata({ root, args: ["--volume-deadline", "3"] });
    daemons.push(daemon.pid);
  };

  before(async () => {
    fuse = await startHungFuse();
    driverOptions = await hungOptions(fuse, join(scratch.path, "asks"));
    await start();
    await daemon.ok(["import", await busyboxTar(join(scratch.path, "bb.tar")), "bb"]);
  });

  after(async () => {
    await daemon.docker(["rm", "-f", "lives", "well"], patience);
    await daemon.stop();
    await fuse[Symbol.asyncDispose]();
    await unmountBelow(scratch.path);
    scratch[Symbol.dispose]();
  });

  const post = (path: string, json: object = {}): Promise<Answer> => call(daemon, { method: "POST", path, json });
  const makeVolume = (Name: string): Promise<Answer> =>
    post("/v1.43/volumes/create", { Name, Driver: "local", DriverOpts: driverOptions });
  const makeContainer = (name: string, ...Binds: string[]): Promise<Answer> =>
    post(`/v1.43/containers/create?name=${name}`, {
      Image: "bb",
      Cmd: ["sleep", "1000"],
      NetworkDisabled: true,
      HostConfig: { NetworkMode: "none", Binds },
    });
  const startIt = (name: string): Promise<Answer> => post(`/v1.43/containers/${name}/start`);
  const listed = async (): Promise<{
    readonly Volumes: readonly object[];
    readonly Warnings: readonly string[] | null;
  }> => JSON.parse((await call(daemon, { method: "GET", path: "/v1.43/volumes" })).text);
  const mounts = (): string[] =>
    readFileSync(`/proc/${daemon.pid}/mountinfo`, "utf8")
      .split("\n")
      .filter((line) => line.includes(" fuse.hung ") && line.includes(scratch.path));

  /** Everything that has nothing to do with volumes that hang. */
  const others = async (name: string): Promise<void> => {
    const run = ["run", "--rm", "--network", "none", "-v", `${name}:/d`, "bb", "sh", "-c", "echo kept >/d/f; cat /d/f"];
    assert.equal(await daemon.ok(run, patience), "kept");
    assert.match(await daemon.ok(["ps", "-a"], patience), /^CONTAINER ID/);
    assert.match(await daemon.ok(["volume", "ls", "-q"], patience), new RegExp(`^${name}$`, "m"));
    await daemon.ok(["import", join(scratch.path, "bb.tar"), `again-${name}`], patience);
    await daemon.ok(["rmi", `again-${name}`], patience);
    await daemon.ok(["system", "df"], patience);
    await daemon.ok(["volume", "rm", name], patience);
  };

  test(`${count} of them, wanted at once, delay nobody; each is refused by its name, and nothing of it stays`, async () => {
    assert.ok((await Promise.all(hung.map(makeVolume))).every(({ status }) => status === 201));
    const made = await Promise.all(hung.map((name) => makeContainer(name, `${name}:/d:nocopy`)));
    assert.ok(made.every(({ status }) => status === 201));
    let over = false;
    const starting = Promise.all(hung.map((name) => startIt(name).catch(() => undefined))).then((answers) => {
      over = true;
      return answers;
    });
    await until("they hang", () => mounts().length > 0);
    await others("other0");
    await starting;
    assert.ok(over);
    // Those that had to wait for their mount are told now, those that were told before at once.
    for (const name of hung) {
      const { status, message } = await startIt(name);
      assert.equal(status, 503, message);
      assert.match(message, new RegExp(`^volume ${name} of driver local does not answer since .*; try again later$`));
    }
    const { Volumes, Warnings } = await listed();
    assert.equal(Volumes.length, count);
    const named = (Warnings ?? []).map((words) => /^volume (\S+) of driver local does not answer/.exec(words)?.[1]);
    assert.deepEqual(named.sort(), [...hung].sort());
    await others("other1");
    const leaving = hung.map((name) => call(daemon, { method: "DELETE", path: `/v1.43/containers/${name}?force=1` }));
    assert.ok((await Promise.all(leaving)).every(({ status }) => status === 204));
    const removing = hung.map((name) => call(daemon, { method: "DELETE", path: `/v1.43/volumes/${name}` }));
    for (const { status, message } of await Promise.all(removing)) assert.equal(status, 204, message);
    assert.deepEqual(mounts(), [], "nothing is mounted");
    assert.deepEqual((await listed()).Warnings ?? [], []);
  });

  test("a server that stops answering under a container: a copy is refused, and all goes on once it answers", async () => {
    await fuse.wake();
    assert.equal((await makeVolume("late")).status, 201);
    for (const name of ["lives", "well"]) assert.equal((await makeContainer(name, "late:/d")).status, 201);
    assert.equal((await startIt("lives")).status, 204);
    assert.match(await daemon.ok(["exec", "lives", "ls", "-d", "/d"], patience), /^\/d$/);
    await daemon.ok(["cp", "lives:/d", "-"], patience);
    await fuse.sleep();
    const copied = await daemon.docker(["cp", "lives:/d", "-"], { deadline: 60_000 });
    assert.match(copied.stderr, /a volume of container lives did not answer within 6 s/);
    const body = tarOf({ name: "f", content: "x" });
    const put = (path: string): Promise<Answer> =>
      call(daemon, { method: "PUT", path: `/v1.43/containers/lives/archive?path=${path}`, body });
    const refused = await put("/d");
    assert.deepEqual(
      [refused.status, /^volume late of driver local does not answer/.test(refused.message)],
      [503, true],
    );
    assert.equal((await put("/tmp")).status, 200, "the rest of the container is there");
    // More than the daemon has I/O threads, and nothing ends what waits.
    const wanted = await Promise.all(
      Array.from({ length: 6 }, (_, index) => (index % 2 ? put("/d") : startIt("well"))),
    );
    for (const { status, message } of wanted)
      assert.deepEqual([status, message.includes("volume late of driver local does not answer")], [503, true], message);
    await others("other2");
    await fuse.wake();
    await until("the breaker closed", async () => ((await listed()).Warnings ?? []).length === 0);
    assert.equal((await startIt("well")).status, 204);
    await daemon.ok(["cp", "well:/d", "-"], patience);
    await daemon.ok(["rm", "-f", "well"], patience);
  });

  test("a daemon that is killed beside one opens at once, knows the container, and lets go of the volume", async () => {
    await fuse.sleep();
    await daemon.docker(["cp", "lives:/d", "-"], { deadline: 60_000 });
    await daemon.kill();
    await start();
    assert.equal(await daemon.ok(["ps", "--format", "{{.Names}}"], patience), "lives");
    await others("other3");
    await daemon.ok(["rm", "-f", "lives"], patience);
    await until("nobody uses it", () => mounts().length === 0);
    const { status, message } = await call(daemon, { method: "DELETE", path: "/v1.43/volumes/late" });
    assert.equal(status, 204, message);
    await daemon.kill();
    await start();
    await others("other4");
  });

  test("a server that stops answering under the runtime: the start fails by its name, and nothing of it goes on", async () => {
    await fuse.wake();
    const device = join(scratch.path, "mnt");
    mkdirSync(device);
    await fuse.mount(device);
    const options = { type: "none", device, o: "bind" };
    await post("/v1.43/volumes/create", { Name: "bound", Driver: "local", DriverOpts: options });
    assert.equal((await makeContainer("well", "bound:/d:nocopy")).status, 201);
    assert.equal((await startIt("well")).status, 204);
    await daemon.ok(["kill", "well"], patience);
    await daemon.ok(["wait", "well"], patience);
    await until("nobody uses it", () => mounts().length === 1);
    // The engine's look is two questions; the next one is the runtime's.
    await fuse.answer(2);
    const { status, message } = await startIt("well");
    assert.equal(status, 504, message);
    assert.match(
      message,
      /^volume bound did not answer the runtime: creating container [0-9a-f]{64} took more than 9 s$/,
    );
    const left = (): string[] => ["containers", "state"].flatMap((name) => readdirSync(join(daemon.execRoot, name)));
    assert.deepEqual(left(), []);
    await fuse.wake();
    await until(
      "the kernel let go of it",
      () => !processesBelow(daemon.execRoot).some(({ line }) => /runc/.test(line)),
    );
    await until("it may start again", async () => (await startIt("well")).status === 204);
    await daemon.ok(["rm", "-f", "well"], patience);
    await daemon.ok(["volume", "rm", "bound"], patience);
    assert.equal(mounts().length, 1, "what was mounted by others still is");
  });

  test("a Docker plugin that answers, with its volume on a server that does not: refused by its name, then it works", async () => {
    const data = join(scratch.path, "plugin-data");
    const far = join(data, "far");
    mkdirSync(far, { recursive: true });
    await using stack = new AsyncDisposableStack();
    const plugin = stack.use(await startPlugin({ socket: join(pluginFolderOf(root), "distant.sock"), data }));
    await fuse.mount(far);
    stack.defer(() => void execFileSync("umount", ["-l", far]));
    await fuse.sleep();
    plugin.behaviour.set("Create", ({ body }) => {
      plugin.state.volumes.set(String(body.Name), null);
      return { Err: "" };
    });
    assert.equal((await post("/v1.43/volumes/create", { Name: "far", Driver: "distant" })).status, 201);
    assert.equal((await makeContainer("well", "far:/d:nocopy")).status, 201);
    const starting = startIt("well");
    await until("the plugin was asked to mount", () => plugin.methods().includes("Mount"));
    await others("other5");
    const { status, message } = await starting;
    assert.equal(status, 504, message);
    assert.ok(message.startsWith(`plugin "distant" mounted the volume at "${far}": `), message);
    const refusal = /^volume far of driver distant does not answer since /;
    const again = await startIt("well");
    assert.deepEqual([again.status, refusal.test(again.message)], [503, true], again.message);
    assert.match((await listed()).Warnings?.join() ?? "", refusal);
    await until("the plugin's mount was taken back", () => plugin.state.mounts.get("far")?.length === 0);
    await others("other6");
    await fuse.wake();
    await until("it may start", async () => (await startIt("well")).status === 204);
    await daemon.ok(["rm", "-f", "well"], patience);
    await until("nobody uses it", () => plugin.state.mounts.get("far")?.length === 0);
    assert.ok(plugin.methods().filter((method) => method === "Mount").length >= 2);
    plugin.behaviour.set("Remove", () => ({ Err: "" }));
    await daemon.ok(["volume", "rm", "far"], patience);
  });

  test("no process of any of the daemons stays", async () => {
    await daemon.stop();
    await fuse[Symbol.asyncDispose]();
    const children = (): string[] =>
      processesBelow("child-main").flatMap(({ line }) =>
        daemons.some((pid) => line.trimEnd().endsWith(` ${pid}`)) ? [line] : [],
      );
    await until("the children ended", () => children().length === 0);
    assert.deepEqual(
      processesBelow(root).map(({ line }) => line),
      [],
    );
  });
});
