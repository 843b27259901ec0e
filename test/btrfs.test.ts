/**
 * The docker CLI against a daemon whose data root is a btrfs filesystem in a file: what `--storage-opt size` does to a
 * running container, and what `diff`, `commit` and `ps -s` tell of changes that are found by generations.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { makeLoopFilesystem } from "../src/host/loop.ts";
import { busyboxTar, type Daemon, scratchFolder, startStrata } from "./support/engine.ts";

async function withDaemon(args: readonly string[], use: (daemon: Daemon) => Promise<void>): Promise<void> {
  using scratch = scratchFolder();
  await using loop = await makeLoopFilesystem({ type: "btrfs", size: 768 << 20, directory: scratch.path });
  const root = join(scratch.path, "run");
  await using daemon = await startStrata({ root, dataRoot: join(loop.path, "data"), driver: "btrfs", args });
  await daemon.ok(["import", await busyboxTar(join(scratch.path, "busybox.tar")), "busybox"]);
  try {
    await use(daemon);
  } finally {
    const left = await daemon.ok(["ps", "-aq"]);
    if (left !== "") await daemon.ok(["rm", "-f", ...left.split("\n")]);
  }
}

const fill = (mebibytes: number): string => `dd if=/dev/zero of=/fill bs=1M count=${mebibytes} conv=fsync`;

test("docker run --storage-opt size: half fits, more does not, and the container lives on", () =>
  withDaemon([], async ({ docker, ok }) => {
    await ok(["run", "-d", "--name", "full", "--storage-opt", "size=50m", "busybox", "sleep", "1000"]);
    await ok(["run", "-d", "--name", "free", "busybox", "sleep", "1000"]);
    await ok(["exec", "full", "sh", "-c", fill(25)]);
    const over = await docker(["exec", "full", "sh", "-c", fill(100)]);
    assert.notEqual(over.code, 0);
    assert.match(over.stderr, /Disk quota exceeded|No space left/);
    assert.equal(await ok(["exec", "full", "echo", "alive"]), "alive");
    await ok(["exec", "free", "sh", "-c", fill(100)]);
    await ok(["restart", "-t", "0", "full"]);
    assert.notEqual((await docker(["exec", "full", "sh", "-c", fill(100)])).code, 0);
  }));

test("btrfs.min_space and btrfs.size are the daemon's least and standard", () =>
  withDaemon(["--storage-opt", "btrfs.min_space=20m", "--storage-opt", "btrfs.size=40m"], async ({ docker, ok }) => {
    const small = await docker(["create", "--storage-opt", "size=10m", "busybox", "true"]);
    assert.match(small.stderr, /btrfs: storage size cannot be less than 20.97MB/);
    const unknown = await docker(["create", "--storage-opt", "speed=9", "busybox", "true"]);
    assert.match(unknown.stderr, /Unknown option speed/);
    assert.notEqual((await docker(["run", "--rm", "busybox", "sh", "-c", fill(60)])).code, 0);
    await ok(["run", "--rm", "--storage-opt", "size=80m", "busybox", "sh", "-c", fill(60)]);
  }));

test("diff, commit and sizes of a running container are those of what it changed", () =>
  withDaemon([], async ({ ok }) => {
    await ok(["run", "-d", "--name", "changing", "busybox", "sleep", "1000"]);
    assert.equal(await ok(["diff", "changing"]), "");
    const change =
      "mkdir -p /a/b && echo hello >/a/b/file && rm /etc/group && mv /bin/nc /root/nc && chmod 600 /etc/passwd";
    await ok(["exec", "changing", "sh", "-c", change]);
    const lines = (await ok(["diff", "changing"])).split("\n").sort();
    assert.deepEqual(lines, [
      "A /a",
      "A /a/b",
      "A /a/b/file",
      "A /root/nc",
      "C /bin",
      "C /etc",
      "C /etc/passwd",
      "C /root",
      "D /bin/nc",
      "D /etc/group",
    ]);
    await ok(["commit", "changing", "changed"]);
    const seen =
      "cat /a/b/file; test -e /etc/group || echo gone; test -e /bin/nc || readlink /root/nc; stat -c %a /etc/passwd";
    assert.equal(await ok(["run", "--rm", "changed", "sh", "-c", seen]), "hello\ngone\nbusybox\n600");
    // The file of 6 bytes, /etc/passwd of 58, the symlink of 7.
    assert.match(await ok(["ps", "-s", "--format", "{{.Size}}"]), /^71B \(virtual/);
  }));
