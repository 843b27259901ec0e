import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Command } from "commander";
import { keyValues, readSettings } from "./daemon-config.ts";
import { daemonOptions } from "./daemon-options.ts";
import { redact } from "./log.ts";

async function withFile(content: string, run: (path: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "daemon-"));
  try {
    const path = join(folder, "daemon.json");
    await writeFile(path, content);
    await run(path);
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** What commander makes of a command line. */
function flagsOf(...args: readonly string[]): Record<string, unknown> {
  const command = daemonOptions(new Command()).exitOverride();
  command.parse(args, { from: "user" });
  return command.opts();
}

test("flags carry dockerd's names and repeat", () =>
  withFile("{}", async (path) => {
    const flags = flagsOf(
      "-H",
      "unix:///a",
      "--host",
      "tcp://:1",
      "-s",
      "vfs",
      "-D",
      "--storage-opt",
      "a=b",
      "--config-file",
      path,
    );
    assert.deepEqual(await readSettings(flags), {
      hosts: ["unix:///a", "tcp://:1"],
      "storage-driver": "vfs",
      debug: true,
      "storage-opts": ["a=b"],
    });
  }));

test("the file gives what the flags do not", () =>
  withFile('{"data-root":"/d","labels":["a=b"],"log-level":"warn"}', async (path) => {
    assert.deepEqual(await readSettings(flagsOf("--exec-root", "/e", "--config-file", path)), {
      "data-root": "/d",
      labels: ["a=b"],
      "log-level": "warn",
      "exec-root": "/e",
    });
  }));

test("a key given both ways is refused by its name, lists too", () =>
  withFile('{"hosts":["unix:///x"],"debug":true}', async (path) => {
    await assert.rejects(
      readSettings(flagsOf("-H", "unix:///a", "-D", "--config-file", path)),
      /the following directives are specified both as a flag and in the configuration file: hosts: \(from flag: \[unix:\/\/\/a\], from file: \[unix:\/\/\/x\]\), debug: \(from flag: true, from file: true\)/,
    );
  }));

test("unknown keys, wrong types and what is no JSON are refused by name", async () => {
  await withFile('{"live-restore":true}', async (path) => {
    await assert.rejects(
      readSettings({ configFile: path }),
      /the following directives don't match any configuration option: live-restore/,
    );
  });
  await withFile('{"hosts":"unix:///x"}', async (path) => {
    await assert.rejects(readSettings({ configFile: path }), /hosts: /);
  });
  await withFile("{", async (path) => {
    await assert.rejects(readSettings({ configFile: path }), /is not JSON/);
  });
  await assert.rejects(readSettings({ logLevel: "loud", configFile: "/dev/null" }), /log-level/);
});

test("only a file that was named must exist", async () => {
  await assert.rejects(
    readSettings({ configFile: "/nonexistent/daemon.json" }),
    /unable to configure the daemon with file \/nonexistent\/daemon\.json/,
  );
});

test("storage options are key=value", () => {
  assert.deepEqual(keyValues(["a=b", "c=d=e", "f="]), { a: "b", c: "d=e", f: "" });
  assert.throws(() => keyValues(["x"]), /not of the form key=value/);
  assert.throws(() => keyValues(["=x"]), /not of the form key=value/);
});

test("credentials never reach the log", () => {
  assert.equal(redact("mount //h/s o=username=u,password=p4ss,rw"), "mount //h/s o=username=u,password=***,rw");
  assert.equal(redact('{"token":"abc","x":1}'), '{"token":"***","x":1}');
  assert.equal(redact("get https://me:secret@host/path"), "get https://***@host/path");
  assert.equal(redact("nothing to hide"), "nothing to hide");
});
