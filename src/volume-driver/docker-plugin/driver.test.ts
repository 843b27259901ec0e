import assert from "node:assert/strict";
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { after, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { volumeDriverSuite } from "../conformance.ts";
import type { VolumeDriver, VolumeDriverSource } from "../driver.ts";
import { startPlugin, type TestPlugin } from "./plugin.fixture.ts";
import { type DockerPluginsOptions, openDockerPlugins } from "./source.ts";

const patience = { retry: 400, rest: 60_000, trial: 300 };

type Given = {
  readonly scratch: string;
  readonly plugin: TestPlugin;
  readonly source: VolumeDriverSource;
  readonly driver: VolumeDriver;
  readonly reports: string[];
  /** The same over the same root, as after a restart. */
  readonly reopen: (change?: Partial<DockerPluginsOptions>) => Promise<VolumeDriverSource>;
  readonly restart: () => Promise<TestPlugin>;
};

async function given(work: (given: Given) => Promise<void>): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const scratch = mkdtempSync(join(tmpdir(), "docker-plugin-"));
  stack.defer(() => rmSync(scratch, { recursive: true, force: true }));
  const socket = join(scratch, "run", "tdrv.sock");
  const data = join(scratch, "data");
  const plugin = stack.use(await startPlugin({ socket, data }));
  const reports: string[] = [];
  const reopen: Given["reopen"] = (change = {}) =>
    openDockerPlugins({
      root: join(scratch, "root"),
      folders: { sockets: [join(scratch, "run")], specs: [join(scratch, "etc")] },
      patience,
      report: (message, error) => reports.push(`${message}: ${error instanceof Error ? error.message : error}`),
      ...change,
    });
  const restart = async (): Promise<TestPlugin> => {
    await plugin.stop();
    return stack.use(await startPlugin({ socket, data, state: plugin.state }));
  };
  const source = await reopen();
  await source.settle();
  await work({ scratch, plugin, source, driver: source.of("tdrv"), reports, reopen, restart });
}

const spec = (name: string, options: Record<string, string> = {}) => ({ name, options });

function* endless(): Generator<Buffer> {
  for (;;) yield Buffer.alloc(65_536, " ");
}

async function until(what: string, holds: () => boolean): Promise<void> {
  const end = performance.now() + 20_000;
  while (!holds()) {
    assert.ok(performance.now() < end, what);
    await sleep(10);
  }
}

describe("conformance", () => {
  const plugins = new Map<string, TestPlugin>();
  after(async () => {
    for (const [root, plugin] of plugins) {
      await plugin.stop();
      rmSync(`${root}.plugin`, { recursive: true, force: true });
    }
  });
  volumeDriverSuite("docker plugin", async ({ root }) => {
    const folder = `${root}.plugin`;
    if (!plugins.has(root))
      plugins.set(root, await startPlugin({ socket: join(folder, "tdrv.sock"), data: join(folder, "data") }));
    const source = await openDockerPlugins({ root, folders: { sockets: [folder], specs: [] } });
    await source.settle();
    return source.open("tdrv");
  });
});

describe("calls", () => {
  test("requests are as a stock dockerd sends them", () =>
    given(async ({ source, driver, plugin, scratch }) => {
      const opened = await source.open("tdrv");
      assert.equal(opened, driver);
      assert.equal(driver.traits.scope, "global");
      await driver.create(spec("v1", { a: "b" }));
      await driver.create(spec("v2"));
      assert.equal(await driver.mount(spec("v1"), "use"), join(scratch, "data", "v1"));
      await driver.unmount(spec("v1"), "use");
      await driver.remove(spec("v1"));
      assert.deepEqual(await driver.list(), ["v2"]);
      const bodies = plugin.calls.map(({ method, body }) => `${method} ${body.replace(/[0-9a-f]{64}/, "ID")}`);
      assert.deepEqual(bodies, [
        "Plugin.Activate ",
        "VolumeDriver.Capabilities {}\n",
        'VolumeDriver.Get {"Name":"v1"}\n',
        'VolumeDriver.Create {"Name":"v1","Opts":{"a":"b"}}\n',
        'VolumeDriver.Get {"Name":"v2"}\n',
        'VolumeDriver.Create {"Name":"v2","Opts":null}\n',
        'VolumeDriver.Get {"Name":"v1"}\n',
        'VolumeDriver.Mount {"Name":"v1","ID":"ID"}\n',
        'VolumeDriver.Unmount {"Name":"v1","ID":"ID"}\n',
        'VolumeDriver.Get {"Name":"v1"}\n',
        'VolumeDriver.Remove {"Name":"v1"}\n',
        "VolumeDriver.List {}\n",
      ]);
      for (const { headers } of plugin.calls) {
        assert.equal(headers.accept, "application/vnd.docker.plugins.v1.2+json");
        assert.equal(headers["content-type"], undefined);
        assert.equal(headers.host, "plugin.moby.localhost");
      }
    }));

  test("every use has an id of its own, which the plugin gets back", () =>
    given(async ({ driver, plugin }) => {
      await driver.create(spec("v1"));
      await Promise.all(["a", "b", "c"].map((use) => driver.mount(spec("v1"), use)));
      await driver.mount(spec("v1"), "a");
      const ids = plugin.state.mounts.get("v1") ?? [];
      assert.equal(new Set(ids).size, 3);
      assert.equal(ids.length, 3);
      for (const id of ids) assert.match(id, /^[0-9a-f]{64}$/);
      for (const use of ["a", "b", "c"]) await driver.unmount(spec("v1"), use);
      assert.deepEqual(plugin.state.mounts.get("v1"), []);
    }));

  const words: readonly (readonly [string, number, string, string])[] = [
    ["an error in the answer is told as it is", 200, '{"Err":"boom200"}', "boom200"],
    ["one with a status names the call", 500, '{"Err":"boom500"}', "VolumeDriver.Create: boom500"],
    ["a text does too", 500, "raw text\n", "VolumeDriver.Create: raw text"],
    ["a page with control characters is made printable", 404, "a\u001b[2Jb", "VolumeDriver.Create: a?[2Jb"],
    [
      "what is not JSON is refused",
      200,
      "<html>",
      'plugin "tdrv" answered VolumeDriver.Create wrongly: it is not JSON',
    ],
    [
      "so is what has another shape",
      200,
      '{"Err":{"a":1}}',
      'plugin "tdrv" answered VolumeDriver.Create wrongly: Err: Invalid input: expected string, received object',
    ],
    ["a password that the plugin repeats is not", 200, '{"Err":"no login with hunter2!"}', "no login with ********!"],
  ];
  for (const [title, status, text, message] of words)
    test(title, () =>
      given(async ({ driver, plugin }) => {
        plugin.behaviour.set("Create", ({ response }) => void response.writeHead(status).end(text));
        await assert.rejects(driver.create(spec("v1", { password: "hunter2" })), { code: "internal", message });
      }),
    );

  test("an answer that does not end is cut off", () =>
    given(async ({ driver, plugin }) => {
      let open = true;
      plugin.behaviour.set("List", ({ response }) => {
        response.on("close", () => {
          open = false;
        });
        Readable.from(endless()).pipe(response);
      });
      await assert.rejects(driver.list(), { code: "internal", message: /too much/ });
      await until("the connection is closed", () => !open);
    }));

  test("a plugin without Capabilities is local; one that is no volume driver is refused", () =>
    given(async ({ source, plugin }) => {
      plugin.behaviour.set("Plugin.Activate", () => ({ Implements: ["NetworkDriver"] }));
      await assert.rejects(source.open("tdrv"), {
        message: "error looking up volume plugin tdrv: Plugin does not implement the requested driver",
      });
      assert.deepEqual([source.active, await source.discover()], [[], []]);
      plugin.behaviour.delete("Plugin.Activate");
      plugin.behaviour.set("Capabilities", ({ response }) => void response.writeHead(404).end());
      assert.equal((await source.open("tdrv")).traits.scope, "local");
      assert.deepEqual(source.active, ["tdrv"]);
    }));
});

describe("mount points", () => {
  const hostile: readonly (readonly [string, (scratch: string) => string, RegExp])[] = [
    ["relative", () => "data/v1", /not an absolute path/],
    ["missing", () => "", /not an absolute path/],
    ["with a NUL", () => "/tmp\0/x", /not an absolute path/],
    ["not there", (scratch) => join(scratch, "nowhere"), /no such directory/],
    ["a file", (scratch) => join(scratch, "file"), /not a directory/],
    ["in the engine's folders, by a link", (scratch) => join(scratch, "link"), /the engine's own/],
    ["above the engine's folders", () => "/", /the engine's own/],
  ];
  for (const [what, path, message] of hostile)
    test(`${what}: refused, and the use is given back`, () =>
      given(async ({ driver, plugin, scratch }) => {
        writeFileSync(join(scratch, "file"), "");
        symlinkSync(join(scratch, "root", "volume-drivers"), join(scratch, "link"));
        await driver.create(spec("v1"));
        plugin.behaviour.set("Mount", () => ({ Mountpoint: path(scratch), Err: "" }));
        await assert.rejects(driver.mount(spec("v1"), "use"), { code: "internal", message });
        await until("the id was given back", () => plugin.methods().includes("Unmount"));
      }));

  test("a mount that was refused is not unmounted", () =>
    given(async ({ driver, plugin }) => {
      await driver.create(spec("v1"));
      plugin.behaviour.set("Mount", () => ({ Err: "no" }));
      await assert.rejects(driver.mount(spec("v1"), "use"), { message: "no" });
      await driver.remove(spec("v1"));
      assert.equal(plugin.methods().includes("Unmount"), false);
    }));
});

describe("plugins that go away", () => {
  test("an unknown name fails at once, and so does one that would lead out of the folders", () =>
    given(async ({ source }) => {
      for (const name of ["neverheard", "../run/tdrv", "a/b", ""])
        await assert.rejects(source.open(name), {
          code: "not_found",
          message: `error looking up volume plugin ${name}: plugin ${JSON.stringify(name)} not found`,
        });
    }));

  test("a plugin that is gone is looked for a moment, then told by name", () =>
    given(async ({ driver, plugin }) => {
      await driver.create(spec("v1"));
      await plugin.stop();
      await assert.rejects(driver.create(spec("v2")), {
        message: /^plugin "tdrv" (not found|cannot be reached.*start it)/,
      });
    }));

  test("one that comes back meanwhile is reached, and nothing that was seen is asked twice", () =>
    given(async ({ driver, plugin, reopen, restart }) => {
      await driver.create(spec("v1"));
      const patient = (await reopen({ patience: { ...patience, retry: 20_000 } })).of("tdrv");
      await plugin.stop();
      const creating = patient.create(spec("v2"));
      await sleep(150);
      const again = await restart();
      await creating;
      assert.deepEqual([...again.state.volumes.keys()], ["v1", "v2"]);
      again.behaviour.set("Create", ({ response }) => void response.destroy());
      await assert.rejects(driver.create(spec("v3")), { code: "unavailable" });
      assert.equal(again.methods().filter((method) => method === "Create").length, 2);
    }));

  test("one that hangs delays the first only; it is asked again after a rest", () =>
    given(async ({ plugin, reopen }) => {
      const source = await reopen({ deadlines: { long: 300, short: 300 }, patience: { ...patience, rest: 500 } });
      const driver = await source.open("tdrv");
      plugin.behaviour.set("Get", () => undefined);
      await assert.rejects(driver.create(spec("v1")), {
        code: "deadline_exceeded",
        message: /did not answer VolumeDriver.Get/,
      });
      const asked = plugin.calls.length;
      await assert.rejects(driver.create(spec("v1")), {
        code: "unavailable",
        message: /does not answer; it is asked again/,
      });
      assert.equal(plugin.calls.length, asked);
      plugin.behaviour.delete("Get");
      await sleep(600);
      await driver.create(spec("v1"));
      assert.deepEqual(await driver.list(), ["v1"]);
    }));

  test("a look that was given up keeps other looks away, and nothing else", () =>
    given(async ({ driver, plugin }) => {
      await driver.create(spec("v1"));
      plugin.behaviour.set("List", () => undefined);
      await assert.rejects(driver.list(AbortSignal.timeout(50)), { code: "deadline_exceeded" });
      await assert.rejects(driver.describe(spec("v1"), AbortSignal.timeout(10_000)), { code: "unavailable" });
      await driver.create(spec("v2"));
      await driver.describe(spec("v1"), AbortSignal.timeout(10_000));
    }));
});

describe("restarts of the engine", () => {
  test("a use that a container still has is taken up without a call, others are given back", () =>
    given(async ({ driver, plugin, reopen, scratch }) => {
      await driver.create(spec("v1"));
      await driver.mount(spec("v1"), "lives");
      await driver.mount(spec("v1"), "died");
      const [kept] = plugin.state.mounts.get("v1") ?? [];
      const source = await reopen();
      const calls = plugin.calls.length;
      assert.equal(await source.of("tdrv").mount(spec("v1"), "lives"), join(scratch, "data", "v1"));
      assert.equal(plugin.calls.length, calls);
      await source.settle();
      await until("the other is given back", () => plugin.state.mounts.get("v1")?.length === 1);
      assert.deepEqual(plugin.state.mounts.get("v1"), [kept]);
      await source.of("tdrv").unmount(spec("v1"), "lives");
      assert.deepEqual(plugin.state.mounts.get("v1"), []);
    }));

  test("with the plugin away nothing waits; what could not be given back is, when the volume is removed", () =>
    given(async ({ driver, plugin, reopen, restart, reports }) => {
      await driver.create(spec("v1"));
      await driver.mount(spec("v1"), "lives");
      await plugin.stop();
      const source = await reopen();
      await source.of("tdrv").mount(spec("v1"), "lives");
      await source.settle();
      await source.of("tdrv").unmount(spec("v1"), "lives");
      assert.match(reports.join(), /could not end a use of the volume v1 of plugin tdrv/);
      const again = await restart();
      assert.equal(again.state.mounts.get("v1")?.length, 1);
      await source.of("tdrv").remove(spec("v1"));
      assert.deepEqual(again.methods().slice(-3), ["Unmount", "Get", "Remove"]);
      assert.deepEqual(again.state.mounts.get("v1"), []);
    }));
});
