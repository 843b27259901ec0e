/** `strata fork` against a real engine: what the new container has, what the old one notices, and what a failure leaves. */
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { driverHomes } from "./support/driver-homes.ts";
import {
  busyboxTar,
  type CommandResult,
  command,
  type Daemon,
  scratchFolder,
  startStrata,
  unmountBelow,
} from "./support/engine.ts";

const skip = process.getuid?.() === 0 ? false : "the daemon needs root";
const strata = new URL("../bin/strata", import.meta.url).pathname;

/** Below the data root: where a driver has an entry for each layer, when that is not its home. */
const places: Readonly<Record<string, string>> = { vfs: "vfs/dir", btrfs: "btrfs/subvolumes", zfs: "zfs/graph" };

for (const { driver, home, skip: cannot } of driverHomes)
  describe(`fork on ${driver}`, { skip: skip || cannot }, () => {
    const scratch = scratchFolder();
    let lent: Awaited<ReturnType<NonNullable<typeof home>>> | undefined;
    let daemon: Daemon;
    const fork = (...args: readonly string[]): Promise<CommandResult> =>
      command(strata, ["fork", "-H", daemon.host, ...args]);
    const format = (name: string, template: string): Promise<string> => daemon.ok(["inspect", "-f", template, name]);

    before(async () => {
      lent = await home?.();
      const root = join(scratch.path, "strata");
      daemon = await startStrata({ root, dataRoot: join(lent?.path ?? root, "data"), driver });
      const tar = await busyboxTar(join(scratch.path, "bb.tar"));
      await daemon.ok(["import", "-c", 'CMD ["sh"]', tar, "bb"]);
    });
    after(async () => {
      const ids = (await daemon.ok(["ps", "-aq"])).split("\n").filter((id) => id !== "");
      if (ids.length > 0) await daemon.ok(["rm", "-f", "-v", ...ids]);
      await daemon.stop();
      await unmountBelow(scratch.path);
      await lent?.[Symbol.asyncDispose]();
      scratch[Symbol.dispose]();
    });

    test("a running container: its files, config and anonymous volumes twice, its named volume once", async () => {
      const script =
        "if ! test -e /root/file; then echo one >/root/file; rm -r /tmp; echo kept >/anonymous/in; echo both >/named/in; fi; sleep 1000";
      await daemon.ok([
        "run",
        "-d",
        "--name",
        "one",
        "-e",
        "A=b",
        "-l",
        "k=v",
        "-v",
        "/anonymous",
        "-v",
        "shared:/named",
        "bb",
        "sh",
        "-c",
        script,
      ]);
      await daemon.ok(["exec", "one", "sh", "-c", "until test -e /named/in; do sleep 0.1; done"]);
      const since = String(Date.now() / 1000);
      const made = await fork("one", "two");
      const told = ["--since", since, "--until", String(Date.now() / 1000), "--format", "{{.Action}}"];
      const events = await daemon.ok(["events", "--filter", "container=one", ...told]);
      assert.equal(events, "pause\nunpause", "it stood still meanwhile");
      assert.equal(made.code, 0, made.stderr);
      const id = made.stdout.trim();
      assert.match(id, /^[0-9a-f]{64}$/);
      assert.equal(await format("two", "{{.Id}} {{.State.Status}}"), `${id} created`);
      assert.equal(await format("one", "{{.State.Status}}"), "running", "it goes on");
      for (const what of [
        "{{.Config.Cmd}}",
        "{{.Config.Env}}",
        "{{.Config.Labels}}",
        "{{.HostConfig.Binds}}",
        "{{.Image}}",
      ])
        assert.equal(await format("two", what), await format("one", what), what);
      assert.equal(await format("two", "{{.Config.Hostname}}"), id.slice(0, 12));
      assert.equal(await daemon.ok(["diff", "two"]), await daemon.ok(["diff", "one"]));
      assert.equal(
        await daemon.ok(["ps", "-as", "--filter", "name=two", "--format", "{{.Size}}"]),
        await daemon.ok(["ps", "-as", "--filter", "name=one", "--format", "{{.Size}}"]),
      );
      await daemon.ok([
        "exec",
        "one",
        "sh",
        "-c",
        "echo later >/root/file; echo later >/anonymous/in; echo later >/named/in",
      ]);
      await daemon.ok(["start", "two"]);
      const seen = await daemon.ok([
        "exec",
        "two",
        "sh",
        "-c",
        "cat /root/file /anonymous/in /named/in; test -e /tmp || echo gone",
      ]);
      assert.equal(seen, "one\nkept\nlater\ngone");
      const volume = '{{range .Mounts}}{{if eq .Destination "/anonymous"}}{{.Name}}{{end}}{{end}}';
      assert.notEqual(await format("two", volume), await format("one", volume));
      assert.equal(await daemon.ok(["exec", "two", "hostname"]), id.slice(0, 12));
      await daemon.ok(["rm", "-f", "-v", "one"]);
      assert.equal(await daemon.ok(["exec", "two", "cat", "/anonymous/in"]), "kept");
      await daemon.ok(["rm", "-f", "-v", "two"]);
      assert.equal(await daemon.ok(["volume", "ls", "-q"]), "shared");
    });

    test("a stopped container is forked as it stopped, and shows what it wrote when it is started", async () => {
      await daemon.ok([
        "run",
        "--name",
        "ended",
        "--hostname",
        "asked",
        "bb",
        "sh",
        "-c",
        "cat /w 2>/dev/null; echo again >>/w",
      ]);
      const { stdout } = await fork("ended");
      const id = stdout.trim();
      assert.equal(await daemon.ok(["start", "-a", id]), "again");
      assert.equal(await format(id, "{{.Config.Hostname}}"), "asked");
      assert.equal(await daemon.ok(["logs", "ended"]), "", "logs are each container's own");
    });

    test("new and shared anonymous volumes, when asked", async () => {
      await daemon.ok([
        "run",
        "--name",
        "three",
        "-v",
        "/data",
        "bb",
        "sh",
        "-c",
        "cat /data/in 2>/dev/null; echo x >/data/in",
      ]);
      await fork("--volumes", "share", "three", "sharing");
      assert.equal(await daemon.ok(["start", "-a", "sharing"]), "x");
      await fork("--volumes", "new", "three", "fresh");
      assert.equal(await daemon.ok(["start", "-a", "fresh"]), "");
      const wrong = await fork("--volumes", "what", "three");
      assert.match(wrong.stderr, /invalid volumes: "what"; it is copy, new, share/);
      assert.equal(wrong.code, 1);
    });

    test("a name that is taken, a container that is none: refused, and nothing is left", async () => {
      await daemon.ok(["create", "--name", "source", "-v", "/v", "bb"]);
      const count = async (): Promise<readonly unknown[]> => [
        await daemon.ok(["ps", "-aq"]),
        await daemon.ok(["volume", "ls", "-q"]),
        readdirSync(join(daemon.dataRoot, places[driver] ?? driver)).length,
      ];
      const before = await count();
      const taken = await fork("source", "source");
      assert.match(taken.stderr, /The container name "\/source" is already in use/);
      assert.match((await fork("nobody")).stderr, /No such container: nobody/);
      assert.match((await fork("source", "bad name")).stderr, /Invalid container name/);
      assert.deepEqual(await count(), before);
      await daemon.ok(["pause", await daemon.ok(["run", "-d", "--name", "still", "bb", "sleep", "1000"])]);
      assert.equal((await fork("still", "moved")).code, 0);
      assert.equal(await format("still", "{{.State.Status}}"), "paused", "a person's pause stays");
      await daemon.ok(["unpause", "still"]);
    });
  });
