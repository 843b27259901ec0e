/** The plugin protocol over a real socket, with the real store and drivers in a scratch data root. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, statSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { describe, test } from "node:test";
import { scratchFolder, succeed } from "../../../test/support/engine.ts";
import { callPlugin, type PluginAnswer } from "../../../test/support/volume-plugin.ts";
import { isMountPoint, mountAll, mountTable, unmountAll } from "../../host/mount.ts";
import { openVolumeEngine } from "../../volume-engine.ts";
import { serveVolumePlugin } from "./server.ts";

type Call = (method: string, body?: object | string) => Promise<PluginAnswer>;
type Served = AsyncDisposable & { readonly call: Call; readonly failures: readonly unknown[]; readonly socket: string };

async function serve(root: string, drivers?: readonly string[]): Promise<Served> {
  await using stack = new AsyncDisposableStack();
  const failures: unknown[] = [];
  const report = (_what: string, error: unknown): unknown => failures.push(error);
  const engine = stack.use(await openVolumeEngine({ dataRoot: join(root, "data"), drivers, report }));
  const socket = join(root, "strata.sock");
  stack.use(await serveVolumePlugin(engine.volumes, { socket, onFailure: (error) => failures.push(error) }));
  const held = stack.move();
  return {
    socket,
    failures,
    call: (method, body) => callPlugin(socket, method, body),
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  };
}

const good = async (answer: Promise<PluginAnswer>): Promise<Readonly<Record<string, unknown>>> => {
  const { status, body } = await answer;
  assert.deepEqual([status, body.Err], [200, ""]);
  return body;
};

/** A volume that is mounted for as long as it is used. */
const mounted = { Name: "mounted", Opts: { type: "tmpfs", device: "tmpfs", o: "size=1m" } };

const withServer = (work: (served: Served, root: string) => Promise<void>) => async () => {
  using scratch = scratchFolder();
  {
    await using served = await serve(scratch.path);
    await work(served, scratch.path);
    for (const { Name } of (await good(served.call("VolumeDriver.List", {}))).Volumes as { Name: string }[])
      await good(served.call("VolumeDriver.Remove", { Name }));
  }
  assert.deepEqual(
    mountTable().filter(({ target }) => target.startsWith(scratch.path)),
    [],
  );
  assert.ok(!existsSync(join(scratch.path, "strata.sock")));
};

describe("volume plugin server", () => {
  test(
    "what every method answers",
    withServer(async ({ call, socket }, root) => {
      assert.equal(statSync(socket).mode & 0o777, 0o600);
      assert.deepEqual(await good(call("Plugin.Activate")), { Implements: ["VolumeDriver"], Err: "" });
      assert.deepEqual((await good(call("VolumeDriver.Capabilities", {}))).Capabilities, { Scope: "local" });
      await good(call("VolumeDriver.Create", { Name: "data", Opts: null }));
      const Mountpoint = join(root, "data/volumes/data/_data");
      const { Volume } = (await good(call("VolumeDriver.Get", { Name: "data" }))) as { Volume: { CreatedAt: string } };
      const { CreatedAt } = Volume;
      assert.ok(Date.parse(CreatedAt) > 0);
      assert.deepEqual(Volume, { Name: "data", Mountpoint, CreatedAt, Status: { driver: "local" } });
      assert.deepEqual((await good(call("VolumeDriver.List", {}))).Volumes, [Volume]);
      assert.equal((await good(call("VolumeDriver.Path", { Name: "data" }))).Mountpoint, Mountpoint);
      assert.equal((await good(call("VolumeDriver.Mount", { Name: "data", ID: "a" }))).Mountpoint, Mountpoint);
      await good(call("VolumeDriver.Unmount", { Name: "data", ID: "a" }));
      await good(call("VolumeDriver.Remove", { Name: "data" }));
      await good(call("VolumeDriver.Remove", { Name: "data" }));
      assert.equal((await call("VolumeDriver.Get", { Name: "data" })).body.Err, "get data: no such volume");
    }),
  );

  test(
    "an id that mounts twice is unmounted by its second unmount; an unknown id or volume is nothing",
    withServer(async ({ call }, root) => {
      const place = join(root, "data/volumes/mounted/_data");
      const use = { Name: "mounted", ID: "container" };
      await good(call("VolumeDriver.Create", mounted));
      for (const _ of [1, 2]) await good(call("VolumeDriver.Mount", use));
      await good(call("VolumeDriver.Unmount", { ...use, ID: "never" }));
      await good(call("VolumeDriver.Unmount", use));
      assert.ok(isMountPoint(place));
      const refused = await call("VolumeDriver.Remove", { Name: "mounted" });
      assert.deepEqual([refused.status, /in use/.test(String(refused.body.Err))], [500, true]);
      await good(call("VolumeDriver.Unmount", use));
      assert.ok(!isMountPoint(place));
      await good(call("VolumeDriver.Unmount", { Name: "nothing", ID: "a" }));
    }),
  );

  test("counts outlive the plugin, and what nobody uses any more is unmounted", async () => {
    using scratch = scratchFolder();
    const place = join(scratch.path, "data/volumes/mounted/_data");
    const use = { Name: "mounted", ID: "container" };
    {
      await using first = await serve(scratch.path);
      await good(first.call("VolumeDriver.Create", mounted));
      for (const _ of [1, 2]) await good(first.call("VolumeDriver.Mount", use));
      writeFileSync(join(place, "f"), "kept");
    }
    {
      await using second = await serve(scratch.path);
      assert.equal(readFileSync(join(place, "f"), "utf8"), "kept", "still mounted, and once");
      await good(second.call("VolumeDriver.Unmount", use));
      assert.ok(isMountPoint(place));
      await good(second.call("VolumeDriver.Unmount", use));
      assert.ok(!isMountPoint(place));
      await good(second.call("VolumeDriver.Mount", use));
      await good(second.call("VolumeDriver.Unmount", use));
    }
    mountAll([{ kind: "filesystem", type: "tmpfs", source: "left by a crash", options: [] }], place);
    await using third = await serve(scratch.path);
    assert.ok(!isMountPoint(place));
    await good(third.call("VolumeDriver.Remove", { Name: "mounted" }));
  });

  test(
    "200 volumes at once, and the same one many times, are made once each",
    withServer(async ({ call }, root) => {
      const names = Array.from({ length: 200 }, (_, index) => `v${index}`);
      await Promise.all([...names, ...names.slice(0, 20)].map((Name) => good(call("VolumeDriver.Create", { Name }))));
      assert.deepEqual(readdirSync(join(root, "data/volumes")).sort(), [...names].sort());
      const list = (await good(call("VolumeDriver.List", {}))).Volumes as { Name: string }[];
      assert.deepEqual(list.map(({ Name }) => Name).sort(), [...names].sort());
      await Promise.all(names.map((Name) => good(call("VolumeDriver.Remove", { Name }))));
      assert.deepEqual(readdirSync(join(root, "data/volumes")), []);
    }),
  );

  test(
    "uses of one id that begin and end all at once are counted right",
    withServer(async ({ call }, root) => {
      const use = { Name: "mounted", ID: "container" };
      const many = (method: string): Promise<unknown> =>
        Promise.all(Array.from({ length: 40 }, () => good(call(`VolumeDriver.${method}`, use))));
      await good(call("VolumeDriver.Create", mounted));
      await many("Mount");
      await Promise.all([many("Mount"), many("Unmount")]);
      assert.ok(isMountPoint(join(root, "data/volumes/mounted/_data")));
      await many("Unmount");
      assert.ok(!isMountPoint(join(root, "data/volumes/mounted/_data")));
    }),
  );

  test("uses end with the boot", async () => {
    using scratch = scratchFolder();
    {
      await using first = await serve(scratch.path);
      await good(first.call("VolumeDriver.Create", mounted));
      await good(first.call("VolumeDriver.Mount", { Name: "mounted", ID: "container" }));
    }
    const database = new DatabaseSync(join(scratch.path, "data/meta.db"));
    assert.equal(database.prepare("UPDATE outside_use SET boot = 'another'").run().changes, 1);
    database.close();
    await using second = await serve(scratch.path);
    assert.ok(!isMountPoint(join(scratch.path, "data/volumes/mounted/_data")));
    await good(second.call("VolumeDriver.Remove", { Name: "mounted" }));
  });

  test(
    "a second create with other options is refused, with the same or none it is that volume",
    withServer(async ({ call }) => {
      const Opts = { driver: "tmpfs", size: "1m" };
      await good(call("VolumeDriver.Create", { Name: "memory", Opts }));
      await good(call("VolumeDriver.Create", { Name: "memory", Opts }));
      await good(call("VolumeDriver.Create", { Name: "memory" }));
      for (const other of [{ driver: "tmpfs" }, { driver: "tmpfs", size: "2m" }, { driver: "local" }]) {
        const { status, body } = await call("VolumeDriver.Create", { Name: "memory", Opts: other });
        assert.equal(status, 500);
        assert.match(String(body.Err), /volume name must be unique/);
      }
    }),
  );

  test(
    "requests that make no sense are refused with words, and change nothing",
    withServer(async ({ call, failures }) => {
      const wrong: readonly [string, object | string, number, RegExp][] = [
        ["VolumeDriver.Create", "", 400, /body: /],
        ["VolumeDriver.Create", "{", 400, /not JSON/],
        ["VolumeDriver.Create", "[1]", 400, /body: |Name: /],
        ["VolumeDriver.Create", {}, 400, /Name: .*missing/],
        ["VolumeDriver.Create", { Name: "" }, 400, /Name: /],
        ["VolumeDriver.Create", { Name: "x".repeat(300) }, 400, /Name: /],
        ["VolumeDriver.Create", { Name: "../../etc" }, 400, /invalid characters/],
        ["VolumeDriver.Create", { Name: "ab", Opts: { size: 7 } }, 400, /Opts: /],
        ["VolumeDriver.Create", { Name: "ab", Opts: { driver: "nope" } }, 400, /driver= takes local, tmpfs/],
        ["VolumeDriver.Create", { Name: "ab", Opts: { __proto__x: "1" } }, 400, /invalid option/],
        ["VolumeDriver.Mount", { Name: "ab" }, 400, /ID: /],
        ["VolumeDriver.Mount", { Name: "../../etc", ID: "a" }, 500, /no such volume/],
        ["VolumeDriver.Get", { Name: "constructor" }, 500, /no such volume/],
        ["VolumeDriver.Create", `{"Name":"${"x".repeat(300_000)}"}`, 413, /large/],
        ["VolumeDriver.Nothing", {}, 404, /no such method/],
      ];
      for (const [method, body, status, words] of wrong) {
        const answer = await call(method, body);
        assert.equal(answer.status, status, `${method} ${JSON.stringify(body).slice(0, 80)}: ${answer.body.Err}`);
        assert.match(String(answer.body.Err), words);
      }
      assert.deepEqual((await good(call("VolumeDriver.List", {}))).Volumes, []);
      assert.deepEqual(failures, []);
    }),
  );

  test(
    "a mount that fails says why, without the password, and is no use",
    withServer(async ({ call }) => {
      const Opts = { type: "ext4", device: "/dev/null", o: "password=hush-hush" };
      await good(call("VolumeDriver.Create", { Name: "broken", Opts }));
      const { status, body } = await call("VolumeDriver.Mount", { Name: "broken", ID: "a" });
      assert.equal(status, 500);
      assert.match(String(body.Err), /error while mounting volume/);
      const said = [body, await good(call("VolumeDriver.Get", { Name: "broken" }))].map((each) => JSON.stringify(each));
      assert.ok(said.every((text) => !text.includes("hush-hush")));
    }),
  );

  test("drivers that are not offered cannot be named, and the first is the default", async () => {
    using scratch = scratchFolder();
    await using served = await serve(scratch.path, ["tmpfs"]);
    await good(served.call("VolumeDriver.Create", { Name: "memory", Opts: { size: "1m" } }));
    assert.deepEqual(readdirSync(join(scratch.path, "data/volume-drivers/tmpfs")), ["memory"]);
    assert.equal((await served.call("VolumeDriver.Create", { Name: "ab", Opts: { driver: "local" } })).status, 400);
    await good(served.call("VolumeDriver.Remove", { Name: "memory" }));
    await assert.rejects(serve(join(scratch.path, "other"), ["nope"]), /no volume driver "nope"; there are local, /);
  });

  test("one plugin has a data root and a socket, and never an engine's data root", async () => {
    using scratch = scratchFolder();
    await using first = await serve(scratch.path);
    await assert.rejects(serve(scratch.path), { code: "conflict" });
    const other = join(scratch.path, "other");
    await using engine = await openVolumeEngine({ dataRoot: join(other, "data"), report: () => undefined });
    const taken = { socket: first.socket, onFailure: () => undefined };
    await assert.rejects(serveVolumePlugin(engine.volumes, taken), /another process answers/);
    await engine[Symbol.asyncDispose]();
    writeFileSync(join(other, "data/engine-id"), "x");
    await assert.rejects(serve(other), /is the data root of an engine/);
  });

  test(
    "a client that sends half a request, or goes away, harms nobody",
    withServer(async ({ call, socket }) => {
      const half = connect(socket, () =>
        half.write("POST /VolumeDriver.List HTTP/1.1\r\nHost:\r\nContent-Length: 9\r\n\r\n{"),
      );
      half.on("error", () => undefined);
      const noise = connect(socket, () => noise.end("\0\0\0 nothing of HTTP\r\n\r\n"));
      noise.on("error", () => undefined);
      await good(call("VolumeDriver.Create", { Name: "data" }));
      half.destroy();
    }),
  );

  test(
    "a use whose end was never told keeps the volume while its engine lives, or somebody sees it",
    withServer(async ({ call, socket }, root) => {
      const [place, elsewhere] = [join(root, "data/volumes/mounted/_data"), join(root, "elsewhere")];
      const remove = (): Promise<PluginAnswer> => call("VolumeDriver.Remove", { Name: "mounted" });
      await good(call("VolumeDriver.Create", mounted));
      await good(call("VolumeDriver.Mount", { Name: "mounted", ID: "lives" }));
      assert.match(String((await remove()).body.Err), /in use/);
      await good(call("VolumeDriver.Unmount", { Name: "mounted", ID: "lives" }));
      await mountByOther(socket, { Name: "mounted", ID: "lost" });
      for (const name of [elsewhere, join(place, "f")]) writeFileSync(name, "");
      await using stack = new AsyncDisposableStack();
      mountAll([{ kind: "bind", source: join(place, "f"), readonly: false, recursive: false }], elsewhere);
      stack.defer(() => unmountAll(elsewhere));
      assert.match(String((await remove()).body.Err), /in use/);
      unmountAll(elsewhere);
      // from inside another pid namespace nobody can tell
      const blind = readlinkSync("/proc/self/ns/pid") !== "pid:[4026531836]";
      if (blind) await good(call("VolumeDriver.Unmount", { Name: "mounted", ID: "lost" }));
      // a namespace that another test made meanwhile may still show what was bound
      const end = performance.now() + 60_000;
      while ((await remove()).status !== 200) assert.ok(performance.now() < end, "it can be removed");
    }),
  );

  test(
    "an engine that was killed counts anew when it mounts with the same id again, unless its container lives",
    withServer(async ({ call, socket }, root) => {
      const use = { Name: "mounted", ID: "container" };
      const [place, container] = [join(root, "data/volumes/mounted/_data"), join(root, "container")];
      await good(call("VolumeDriver.Create", mounted));
      await mountByOther(socket, use);
      mkdirSync(container);
      await using stack = new AsyncDisposableStack();
      mountAll([{ kind: "bind", source: place, readonly: false, recursive: false }], container);
      stack.defer(() => unmountAll(container));
      await good(call("VolumeDriver.Mount", use));
      await good(call("VolumeDriver.Unmount", use));
      assert.ok(isMountPoint(place), "seen in a container");
      unmountAll(container);
      await good(call("VolumeDriver.Unmount", use));
      const other = { ...use, Name: "other" };
      await good(call("VolumeDriver.Create", { ...mounted, ...other }));
      await mountByOther(socket, other);
      await good(call("VolumeDriver.Mount", other));
      await good(call("VolumeDriver.Unmount", other));
      assert.ok(!isMountPoint(join(root, "data/volumes/other/_data")));
    }),
  );
});

/** Mounts from a process of its own, which is gone when it resolves. */
async function mountByOther(socket: string, use: object): Promise<void> {
  const support = new URL("../../../test/support/volume-plugin.ts", import.meta.url);
  const code = `import { callPlugin } from ${JSON.stringify(support)};
    console.log((await callPlugin(${JSON.stringify(socket)}, "VolumeDriver.Mount", ${JSON.stringify(use)})).status);`;
  assert.equal(await succeed(process.execPath, ["--input-type=module-typescript", "-e", code]), "200\n");
}
