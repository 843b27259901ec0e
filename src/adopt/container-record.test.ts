import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { scratch } from "../archive/tree.fixture.ts";
import { readContainerFiles } from "./container-files.ts";
import { type Converted, convertContainer } from "./container-record.ts";

const id = "c".repeat(64);
const config = {
  ID: id,
  Name: "/db",
  Created: "2026-11-21T12:12:10.168036471Z",
  Path: "sh",
  Args: ["-c", "true"],
  Config: { Cmd: ["sh", "-c", "true"], Image: "app:1", Entrypoint: null, Healthcheck: null },
  Image: `sha256:${"a".repeat(64)}`,
  Driver: "overlay2",
  State: { StartedAt: "0001-01-01T00:00:00Z", ExitCode: 0 },
};

/** By way of the files, as dockerd writes them. */
async function convert(more: object = {}, host: object = {}): Promise<Converted> {
  using root = scratch();
  const folder = join(root.path, "containers", id);
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "config.v2.json"), JSON.stringify({ ...config, ...more }));
  writeFileSync(join(folder, "hostconfig.json"), JSON.stringify(host));
  const [files] = await readContainerFiles(root.path);
  assert.ok(files !== undefined);
  if (!files.read.ok) throw new Error(files.read.problem);
  const mountpoint = (name: string) => (name === "lost" ? undefined : `/data/volumes/${name}/_data`);
  return convertContainer(files.read, { dataRoot: "/data", mountpoint });
}

test("a container that was never started is created; what is null is left out", async () => {
  const { record, state, notes } = await convert();
  assert.deepEqual([record.name, record.path, record.args, record.image], ["db", "sh", ["-c", "true"], "app:1"]);
  assert.deepEqual(record.config, { Cmd: ["sh", "-c", "true"], Image: "app:1" });
  assert.equal(record.logPath, `/data/containers/${id}/${id}.log`);
  assert.equal(state.status, "created");
  assert.deepEqual(notes, []);
});

test("a run that ended keeps its times, its code and who ended it", async () => {
  const State = {
    StartedAt: "2026-11-21T12:12:11.667001866Z",
    FinishedAt: "2026-11-21T12:12:12.66966285Z",
    ExitCode: 137,
    OOMKilled: true,
    Error: "why",
  };
  const { state } = await convert({ State, RestartCount: 3, HasBeenManuallyStopped: true });
  assert.deepEqual(state, {
    status: "exited",
    exitCode: 137,
    error: "why",
    oomKilled: true,
    startedAt: State.StartedAt,
    finishedAt: State.FinishedAt,
    restartCount: 3,
    stoppedByUser: true,
  });
});

const hosts: readonly (readonly [string, object, object, RegExp | undefined])[] = [
  [
    "json-file with a size",
    { LogConfig: { Type: "json-file", Config: { "max-size": "1m" } } },
    { LogConfig: { Type: "json-file", Config: { "max-size": "1m" } } },
    undefined,
  ],
  [
    "more log options",
    { LogConfig: { Type: "json-file", Config: { "max-size": "1m", "max-file": "3" } } },
    { LogConfig: { Type: "json-file", Config: { "max-size": "1m" } } },
    /dropped: max-file/,
  ],
  [
    "another log driver",
    { LogConfig: { Type: "journald", Config: { tag: "x" } } },
    { LogConfig: { Type: "json-file", Config: {} } },
    /"journald" becomes json-file/,
  ],
  ["no log", { LogConfig: { Type: "none", Config: null } }, { LogConfig: { Type: "none", Config: {} } }, undefined],
  ["a shareable IPC namespace", { IpcMode: "shareable" }, { IpcMode: "private" }, undefined],
  ["containerd's name of runc", { Runtime: "io.containerd.runc.v2" }, { Runtime: "runc" }, undefined],
  [
    "published ports",
    { PortBindings: { "80/tcp": [{ HostPort: "80" }] } },
    { PortBindings: { "80/tcp": [{ HostPort: "80" }] } },
    /will not start here: publishing ports/,
  ],
  ["another runtime", { Runtime: "nvidia" }, { Runtime: "nvidia" }, /will not start here: .*nvidia/],
];

for (const [what, host, kept, note] of hosts)
  test(`${what}: what becomes of it, and what is told`, async () => {
    const { record, notes } = await convert({}, host);
    const keys = Object.keys(kept);
    assert.deepEqual(Object.fromEntries(keys.map((key) => [key, record.hostConfig[key]])), kept);
    if (note === undefined) assert.deepEqual(notes, []);
    else assert.match(notes.join("\n"), note);
  });

test("mount points keep what dockerd made of them, parents first", async () => {
  const MountPoints = {
    "/a/deep": {
      Type: "bind",
      Source: "/srv",
      Destination: "/a/deep",
      RW: false,
      Propagation: "rslave",
      Spec: { Type: "bind", Source: "/srv", Target: "/a/deep" },
    },
    "/a": {
      Type: "volume",
      Name: "named",
      Destination: "/a",
      RW: true,
      Driver: "local",
      Relabel: "z",
      Source: "/var/lib/docker/volumes/named/_data",
      Spec: { Type: "volume", Source: "named", Target: "/a" },
    },
    "/anon": { Type: "volume", Name: "d".repeat(64), Destination: "/anon", RW: true, Driver: "local", Spec: {} },
    "/tmp": {
      Type: "tmpfs",
      Destination: "/tmp",
      RW: true,
      Spec: { Type: "tmpfs", Target: "/tmp", TmpfsOptions: { SizeBytes: 1048576 } },
    },
  };
  const { record } = await convert({ MountPoints }, { Tmpfs: { "/run": "size=2m" } });
  const told = record.mounts.map(({ destination, type, source, readWrite, mode, propagation, anonymous }) => [
    destination,
    type,
    source,
    readWrite,
    mode,
    propagation,
    anonymous,
  ]);
  assert.deepEqual(told, [
    ["/a", "volume", "/data/volumes/named/_data", true, "z", "", false],
    ["/anon", "volume", `/data/volumes/${"d".repeat(64)}/_data`, true, "", "", true],
    ["/run", "tmpfs", "", true, "", "", false],
    ["/tmp", "tmpfs", "", true, "", "", false],
    ["/a/deep", "bind", "/srv", false, "", "rslave", false],
  ]);
  assert.match(record.mounts.find(({ destination }) => destination === "/tmp")?.tmpfsOptions ?? "", /size=1m/);
  assert.match(record.mounts.find(({ destination }) => destination === "/run")?.tmpfsOptions ?? "", /size=2m/);
  const lost = { "/x": { Type: "volume", Name: "lost", Destination: "/x", RW: true } };
  await assert.rejects(convert({ MountPoints: lost }), /its volume lost is not here/);
});

test("records that make no container are refused, each with what is wrong", async () => {
  for (const [more, message] of [
    [{ ID: "d".repeat(64) }, /another container's/],
    [{ Name: "/../x" }, /Invalid container name/],
    [{ Image: "sha256:../../x" }, /cannot be read/],
    [{ State: null }, /damaged: State/],
    [{ Config: [] }, /damaged: Config/],
    [{ MountPoints: { "/": { Type: "bind", Source: "/x", Destination: "/" } } }, /destination can't be '\/'/],
  ] as const)
    await assert.rejects(convert(more), { message });
});
