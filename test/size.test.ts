/**
 * `--storage-opt size` on overlay2 through the unmodified docker CLI: what `df` shows and what a full container does,
 * that every other command tells the truth of such a container, and that its loop device is given back, also when the
 * daemon was killed meanwhile. By filesystems in files here; where the data root has project quotas, by those.
 */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { mountTable } from "../src/host/mount.ts";
import { busyboxTar, command, type Daemon, scratchFolder, startStrata, unmountBelow } from "./support/engine.ts";

const root = process.getuid?.() === 0;
const skip = root && existsSync("/dev/loop-control") ? false : "needs root and loop devices";
const mebibyte = 1 << 20;

/** Image files below `folder` that a loop device stands over. */
const loopsBelow = (folder: string): string[] =>
  readdirSync("/sys/block")
    .map((name) => `/sys/block/${name}/loop/backing_file`)
    .filter((path) => existsSync(path))
    .map((path) => readFileSync(path, "utf8").trim())
    .filter((file) => file.startsWith(folder));

/** The kernel clears a device some moments after its last user has gone. */
async function assertNoLoops(folder: string): Promise<void> {
  for (let tries = 0; tries < 200 && loopsBelow(folder).length > 0; tries++) await sleep(50);
  assert.deepEqual(loopsBelow(folder), []);
}

const fill = (mebibytes: number, file = "/fill"): string =>
  `dd if=/dev/zero of=${file} bs=1M count=${mebibytes} conv=fsync`;

describe("size limits on overlay2", { skip }, () => {
  const scratch = scratchFolder();
  const folder = join(scratch.path, "strata");
  let daemon: Daemon;

  const start = (...args: string[]): Promise<Daemon> => startStrata({ root: folder, driver: "overlay2", args });
  const inside = (name: string, script: string): Promise<string> => daemon.ok(["exec", name, "sh", "-c", script]);
  const diskOf = async (name: string): Promise<number> => {
    const data = await daemon.ok(["inspect", "-f", "{{json .GraphDriver.Data}}", name]);
    const { UpperImage } = JSON.parse(data) as { UpperImage: string };
    return statSync(UpperImage).blocks * 512;
  };

  before(async () => {
    daemon = await start();
    await daemon.ok(["import", "-c", 'CMD ["sh"]', await busyboxTar(join(scratch.path, "bb.tar")), "bb"]);
  });

  after(async () => {
    const ids = (await daemon.ok(["ps", "-aq"])).split("\n").filter((id) => id !== "");
    if (ids.length > 0) await daemon.docker(["rm", "-f", ...ids]);
    await daemon.stop();
    await assertNoLoops(scratch.path);
    await unmountBelow(scratch.path);
    scratch[Symbol.dispose]();
  });

  test("df shows the limit, a write past it fails, the container lives on, and what it deletes is free again", async () => {
    await daemon.ok(["run", "-d", "--name", "full", "--storage-opt", "size=32m", "bb", "sleep", "1000"]);
    const [, blocks, used] = (await inside("full", "df -k / | tail -1")).split(/\s+/).map(Number);
    assert.ok(Math.abs((blocks ?? 0) - 32 * 1024) < 128, `df says ${blocks} KiB`);
    assert.ok((used ?? 0) < 256, `df says ${used} KiB are used`);
    const thin = await diskOf("full");
    assert.ok(thin < 2 * mebibyte, `an empty one takes ${thin} bytes`);
    await inside("full", fill(20, "/some"));
    const over = await daemon.docker(["exec", "full", "sh", "-c", fill(48)]);
    assert.match(over.stderr, /No space left on device|Disk quota exceeded/);
    assert.equal(await inside("full", "rm /fill && sync && md5sum </some >/sum && echo alive"), "alive");
    const before = await diskOf("full");
    await inside("full", "rm /some && sync");
    for (let tries = 0; tries < 100 && (await diskOf("full")) > before / 2; tries++) await sleep(100);
    assert.ok((await diskOf("full")) < before / 2, "what was deleted still takes room");
  });

  test("sizes, diff, cp, export and commit are those of any container, running and stopped", async () => {
    await daemon.ok(["run", "-d", "--name", "told", "--storage-opt", "size=32m", "bb", "sleep", "1000"]);
    await inside("told", "mkdir /new && dd if=/dev/zero of=/new/file bs=1000 count=1000 2>&1 && rm /etc/group");
    writeFileSync(join(scratch.path, "copied"), "in");
    await daemon.ok(["cp", join(scratch.path, "copied"), "told:/copied"]);
    const tell = async (): Promise<readonly string[]> => [
      await daemon.ok(["ps", "-a", "-s", "--filter", "name=told", "--format", "{{.Size}}"]),
      (await daemon.ok(["diff", "told"])).split("\n").toSorted().join(),
      await daemon.ok(["inspect", "-s", "-f", "{{.SizeRw}}", "told"]),
      (await command("bash", ["-c", `docker -H ${daemon.host} export told | tar -t | grep -c -e new/file -e copied`]))
        .stdout,
    ];
    const running = await tell();
    assert.match(running[0] ?? "", /^1MB \(virtual /);
    assert.deepEqual(running.slice(1), ["A /copied,A /new,A /new/file,C /etc,D /etc/group", "1000002", "2\n"]);
    await daemon.ok(["stop", "-t", "0", "told"]);
    assert.deepEqual(await tell(), running);
    await daemon.ok(["commit", "told", "committed"]);
    const listed = await daemon.ok([
      "run",
      "--rm",
      "committed",
      "sh",
      "-c",
      "cat /copied; ls /new; test -e /etc/group || echo gone",
    ]);
    assert.equal(listed, "infile\ngone");
    await daemon.ok(["start", "told"]);
    assert.equal(await inside("told", "wc -c </new/file; cat /copied"), "1000000\nin");
    await daemon.ok(["rm", "-f", "told"]);
  });

  test("a container outlives a killed daemon; stop and rm then give back mount and loop device", async () => {
    await daemon.ok(["run", "-d", "--name", "kept", "--storage-opt", "size=32m", "bb", "sleep", "1000"]);
    await daemon.ok(["create", "--name", "resting", "--storage-opt", "size=32m", "bb", "true"]);
    await inside("kept", "echo before >/file && sync");
    await daemon.kill();
    daemon = await start();
    assert.equal(await inside("kept", "cat /file"), "before");
    assert.equal(await daemon.ok(["diff", "kept"]), "A /file");
    const over = await daemon.docker(["exec", "kept", "sh", "-c", fill(48)]);
    assert.match(over.stderr, /No space left on device|Disk quota exceeded/);
    await daemon.ok(["restart", "-t", "0", "kept"]);
    assert.equal(await inside("kept", "rm /fill; cat /file"), "before");
    assert.notEqual(loopsBelow(scratch.path).length, 0);
    await daemon.ok(["stop", "-t", "0", "kept", "full"]);
    await assertNoLoops(scratch.path);
    assert.deepEqual(
      mountTable().filter(({ target }) => target.startsWith(scratch.path)),
      [],
    );
    await daemon.ok(["start", "-a", "resting"]);
    await daemon.ok(["rm", "-f", "kept", "full", "resting"]);
    await assertNoLoops(scratch.path);
    const left = readdirSync(join(daemon.dataRoot, "overlay2"), { recursive: true, encoding: "utf8" });
    assert.deepEqual(
      left.filter((path) => path.endsWith("/image") && !path.startsWith("trash")),
      [],
    );
  });

  test("what is no size is refused in Docker's words, and nothing is made", async () => {
    // The first container of an image makes its init layer.
    await daemon.ok(["rm", await daemon.ok(["create", "bb", "true"])]);
    const layers = readdirSync(join(daemon.dataRoot, "overlay2")).length;
    for (const [option, words] of [
      ["size=", /invalid size: ''/],
      ["size=many", /invalid size: 'many'/],
      ["size=-5m", /invalid size: '-5m'/],
      ["size=0", /overlay2: invalid storage size: 0B/],
      ["size=1000", /overlay2: storage size cannot be less than 4\.194MB/],
      ["size=100000t", /more than the filesystem of the data root can hold/],
      ["speed=9", /Unknown option speed/],
    ] as const) {
      const { code, stderr } = await daemon.docker(["create", "--storage-opt", option, "bb", "true"]);
      assert.notEqual(code, 0, option);
      assert.match(stderr, words);
    }
    assert.equal(await daemon.ok(["ps", "-aq"]), "");
    assert.equal(readdirSync(join(daemon.dataRoot, "overlay2")).length, layers);
    await assertNoLoops(scratch.path);
  });

  test("overlay2.size is what a container gets that asks for nothing, a build's as well", async () => {
    await daemon.stop();
    daemon = await start("--storage-opt", "overlay2.size=16m");
    const df = "df -m / | tail -1 | tr -s ' ' | cut -d ' ' -f 2";
    assert.equal(await daemon.ok(["run", "--rm", "bb", "sh", "-c", df]), "16");
    assert.equal(await daemon.ok(["run", "--rm", "--storage-opt", "size=24m", "bb", "sh", "-c", df]), "24");
    const input = `FROM bb\nRUN ${df} >/size\nRUN ! ${fill(24)}`;
    await daemon.ok(["build", "-t", "built", "-"], { input });
    assert.equal(await daemon.ok(["run", "--rm", "built", "cat", "/size"]), "16");
    await daemon.stop();
    await assert.rejects(start("--storage-opt", "overlay2.size=much"), /invalid size: 'much'/);
    daemon = await start();
  });
});

for (const driver of ["vfs", "fuse-overlayfs"])
  test(`${driver}: df shows the limit, it holds, and changes are told as ever`, { skip }, async () => {
    using scratch = scratchFolder();
    const daemon = await startStrata({ root: join(scratch.path, "strata"), driver });
    try {
      await daemon.ok(["import", await busyboxTar(join(scratch.path, "bb.tar")), "bb"]);
      await daemon.ok(["run", "-d", "--name", "cc", "--storage-opt", "size=24m", "bb", "sleep", "1000"]);
      const df = "df -m / | tail -1 | tr -s ' ' | cut -d ' ' -f 2";
      assert.equal(await daemon.ok(["exec", "cc", "sh", "-c", df]), "24");
      const over = await daemon.docker(["exec", "cc", "sh", "-c", fill(40)]);
      assert.match(over.stderr, /No space left on device|Disk quota exceeded/);
      await daemon.ok(["exec", "cc", "sh", "-c", "rm /fill && echo kept >/file"]);
      await daemon.ok(["restart", "-t", "0", "cc"]);
      assert.equal(await daemon.ok(["diff", "cc"]), "A /file");
      await daemon.ok(["commit", "cc", "committed"]);
      assert.equal(await daemon.ok(["run", "--rm", "committed", "cat", "/file"]), "kept");
      await daemon.ok(["rm", "-f", "cc"]);
      await assertNoLoops(scratch.path);
    } finally {
      await daemon.stop();
      await unmountBelow(scratch.path);
    }
  });
