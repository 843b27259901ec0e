import assert from "node:assert/strict";
import { mkdir, readFile, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import {
  addBusybox,
  assertClean,
  createShell,
  type Engine,
  makeFolder,
  openEngine,
  requestOf,
  runShell,
} from "../../test/support/scratch-engine.ts";
import type { HostConfig } from "./container.ts";

let folder: Awaited<ReturnType<typeof makeFolder>>;
let engine: Engine;

before(async () => {
  folder = await makeFolder();
  engine = await openEngine(folder.path);
  await addBusybox(engine);
});

after(async () => {
  try {
    await assertClean(engine);
    for (const { name } of (await engine.volumes.list()).volumes) await engine.volumes.remove(name, { force: true });
  } finally {
    await engine[Symbol.asyncDispose]();
    await folder[Symbol.asyncDispose]();
  }
});

const output = async (script: string, hostConfig: HostConfig): Promise<string> => {
  const { stdout, stderr } = await runShell(engine, script, { hostConfig });
  return stdout + stderr;
};

test("a new volume is filled from the image at create; data outlives the container", async () => {
  await createShell(engine, "true", { hostConfig: { Binds: ["filled:/data"] } });
  const volume = await engine.volumes.get("filled");
  assert.equal(await readFile(join(volume.mountpoint, "sub/file"), "utf8"), "from the image\n");
  assert.equal(await output("echo kept > /data/f", { Binds: ["filled:/data"] }), "");
  assert.equal(
    await output("cat /d/f; touch /d/x", { Binds: ["filled:/d:ro"] }),
    "kept\ntouch: /d/x: Read-only file system\n",
  );
  const { mounts } = engine.containers.get(
    await createShell(engine, "true", { hostConfig: { Binds: ["filled:/data"] } }),
  );
  assert.deepEqual(
    mounts.map(({ type, name, source, destination, driver, readWrite }) => [
      type,
      name,
      source,
      destination,
      driver,
      readWrite,
    ]),
    [["volume", "filled", volume.mountpoint, "/data", "local", true]],
  );
});

test("nocopy leaves a volume empty", async () => {
  assert.equal(await output("ls /data", { Binds: ["bare:/data:nocopy"] }), "");
});

test("a create that fails leaves no volume, no layer and no name", async () => {
  const volumes = (await engine.volumes.list()).volumes.map(({ name }) => name);
  const failing: readonly (readonly [HostConfig, string | RegExp])[] = [
    [{ Binds: ["a1:/d", "a2:/d"] }, "Duplicate mount point: /d"],
    [
      { Binds: ["a3:/d"], Mounts: [{ Type: "bind", Source: "/no/such", Target: "/e" }] },
      'invalid mount config for type "bind": bind source path does not exist: /no/such',
    ],
    [{ Binds: ["a4:/d"], StorageOpt: { nonsense: "1" } }, /nonsense/],
    [
      { Binds: ["a5:/d", "rel/path:/data"] },
      'create rel/path: "rel/path" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path',
    ],
  ];
  for (const [hostConfig, message] of failing) {
    await assert.rejects(createShell(engine, "true", { name: "fails", hostConfig }), { message });
    assert.deepEqual(
      (await engine.volumes.list()).volumes.map(({ name }) => name),
      volumes,
    );
  }
  await createShell(engine, "true", { name: "fails" });
});

test("a volume over a file of the image is refused", async () => {
  const config = { Volumes: { "/etc/passwd": {} } };
  await assert.rejects(createShell(engine, "true", { config }), {
    code: "invalid_argument",
    message: "cannot mount volume over existing file, file exists /etc/passwd",
  });
});

test("-v makes a missing source, and a bind shows both ways", async () => {
  const source = join(folder.path, "made/here");
  assert.equal(await output("echo in > /h/f", { Binds: [`${source}:/h`] }), "");
  assert.equal(await readFile(join(source, "f"), "utf8"), "in\n");
  assert.equal(
    await output("cat /h/f; touch /h/x", { Mounts: [{ Type: "bind", Source: source, Target: "/h", ReadOnly: true }] }),
    "in\ntouch: /h/x: Read-only file system\n",
  );
});

test("tmpfs, a read-only root, and a private /dev/shm are what was asked for", async () => {
  const hostConfig: HostConfig = {
    Tmpfs: { "/t": "size=1m" },
    ReadonlyRootfs: true,
    ShmSize: 2 * 1024 * 1024,
  };
  const text = await output("cat /proc/mounts; touch /x", hostConfig);
  assert.match(text, /^tmpfs \/t tmpfs .*size=1024k/m);
  assert.match(text, /^shm \/dev\/shm tmpfs .*size=2048k/m);
  assert.match(text, /Read-only file system/);
});

test("anonymous volumes go with rm -v and with --rm, and only then", async () => {
  const config = { Volumes: { "/anon": {} } };
  const nameOf = (id: string): string => engine.containers.get(id).mounts[0]?.name ?? "";
  const kept = await createShell(engine, "true", { config });
  const keptVolume = nameOf(kept);
  await engine.containers.remove(kept, { force: false, volumes: false });
  assert.notEqual(engine.volumes.find(keptVolume), undefined);
  const gone = await createShell(engine, "true", { config });
  const goneVolume = nameOf(gone);
  await engine.containers.remove(gone, { force: false, volumes: true });
  assert.equal(engine.volumes.find(goneVolume), undefined);
  const own = await createShell(engine, "true", { config, hostConfig: { AutoRemove: true } });
  const ownVolume = nameOf(own);
  const removed = engine.containers.wait(own, "removed");
  await engine.containers.start(own);
  await removed;
  for (let tries = 0; engine.volumes.find(ownVolume) !== undefined && tries < 100; tries++)
    await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(engine.volumes.find(ownVolume), undefined);
});

test("volumes-from gives the same volumes, read-only when asked", async () => {
  const first = await createShell(engine, "true", { name: "giver", hostConfig: { Binds: ["given:/g"] } });
  assert.equal(await output("echo shared > /g/f; cat /g/f", { VolumesFrom: [first] }), "shared\n");
  assert.match(await output("touch /g/x", { VolumesFrom: ["giver:ro"] }), /Read-only/);
  await assert.rejects(engine.volumes.remove("given", { force: false }), { code: "conflict" });
});

test("a subpath is mounted, and a link inside the volume does not lead out", async () => {
  await createShell(engine, "true", { hostConfig: { Binds: ["deep:/deep"] } });
  const { mountpoint } = await engine.volumes.get("deep");
  await mkdir(join(mountpoint, "one/two"), { recursive: true });
  await writeFile(join(mountpoint, "one/two/f"), "deep\n");
  await symlink("/etc", join(mountpoint, "out"));
  const mount = (Subpath: string): HostConfig => ({
    Mounts: [{ Type: "volume", Source: "deep", Target: "/d", VolumeOptions: { Subpath } }],
  });
  assert.equal(await output("cat /d/f", mount("one/two")), "deep\n");
  assert.equal(await output("cat /d", mount("one/two/f")), "deep\n");
  for (const [subpath, code] of [
    ["out", "invalid_argument"],
    ["none", "not_found"],
  ] as const) {
    const id = await createShell(engine, "true", { hostConfig: mount(subpath) });
    await assert.rejects(engine.containers.start(id), { code });
    assert.equal(engine.containers.get(id).state.exitCode !== 0, true);
  }
});

test("the engine's own files are inside: hostname, hosts, resolv.conf", async () => {
  const { stdout } = await runShell(
    engine,
    "cat /etc/hostname /etc/hosts; hostname 2>/dev/null || cat /proc/sys/kernel/hostname",
    {
      config: { Hostname: "me" },
      hostConfig: { ExtraHosts: ["db:10.1.2.3"] },
    },
  );
  assert.match(stdout, /^me\n127\.0\.0\.1\tlocalhost[\s\S]*10\.1\.2\.3\tdb\nme\n$/);
});

test("limits, user, environment and working directory reach the process", async () => {
  const { id } = await engine.containers.create(
    requestOf(
      [
        "sh",
        "-c",
        "id -u; pwd; echo $A $HOSTNAME $HOME; cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null; true",
      ],
      {
        config: { User: "user", WorkingDir: "/made/here", Env: ["A=b"], Hostname: "h" },
        hostConfig: { PidsLimit: 77 },
      },
    ),
  );
  const exit = engine.containers.wait(id, "next-exit");
  await engine.containers.start(id);
  await exit;
  const text = await readFile(engine.containers.get(id).logPath, "utf8");
  assert.match(text, /F 1000\n.*F \/made\/here\n.*F b h \/home\n/);
  assert.match(text, /F 77\n/);
});

test("another container's network is joined while it runs", async () => {
  const net = "readlink /proc/self/ns/net 2>/dev/null || ls -l /proc/self/ns/net";
  const other = await createShell(engine, `${net}; sleep 100`, { name: "net" });
  const mode = { NetworkMode: "container:net" };
  const early = await createShell(engine, "true", { hostConfig: mode });
  await assert.rejects(engine.containers.start(early), {
    code: "conflict",
    message: `cannot join network of a non running container: ${other}`,
  });
  await engine.containers.start(other);
  const joined = await runShell(engine, "ls -l /proc/self/ns/net", { hostConfig: mode });
  const own = await runShell(engine, "ls -l /proc/self/ns/net");
  const pid = engine.containers.get(other).state.pid;
  const { ino } = await stat(`/proc/${pid}/ns/net`);
  assert.match(joined.stdout, new RegExp(`net:\\[${ino}\\]`));
  assert.doesNotMatch(own.stdout, new RegExp(`net:\\[${ino}\\]`));
});
