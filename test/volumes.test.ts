/** Volumes through the docker CLI: those with options over a killed daemon, and many containers that begin one at once. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { leftBehind } from "../src/host/left-behind.ts";
import { busyboxTar, type Daemon, scratchFolder, startStrata, unmountBelow } from "./support/engine.ts";
import { tarOf } from "./support/tar-bytes.ts";

const skip = process.getuid?.() === 0 ? false : "the daemon needs root";
const together = 50;

describe("volumes", { skip }, () => {
  const scratch = scratchFolder();
  const root = join(scratch.path, "strata");
  let daemon: Daemon;

  before(async () => {
    daemon = await startStrata({ root });
    await daemon.ok(["import", await busyboxTar(join(scratch.path, "bb.tar")), "bb"]);
  });

  after(async () => {
    await daemon.docker(["rm", "-f", "-v", "first", "second"]);
    await daemon.stop();
    await unmountBelow(scratch.path);
    scratch[Symbol.dispose]();
  });

  const mounted = (name: string): number =>
    readFileSync(`/proc/${daemon.pid}/mountinfo`, "utf8").split(`/volumes/${name}/_data `).length - 1;
  const runs = (name: string, volume: string): Promise<string> =>
    daemon.ok(["run", "-d", "--network", "none", "--name", name, "-v", `${volume}:/d`, "bb", "sleep", "1000"]);

  test("a volume of limited size is filled from the image, shows its size, and is full at it; made again, it is so again", async () => {
    for (let round = 0; round < 2; round++) {
      await daemon.ok(["volume", "create", "-o", "size=16m", "limited"]);
      assert.equal(await daemon.ok(["volume", "inspect", "-f", "{{.Options.size}}", "limited"]), "16m");
      await daemon.ok([
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "first",
        "-v",
        "limited:/bin",
        "bb",
        "/bin/sleep",
        "1000",
      ]);
      // Kibibytes.
      const size = Number((await daemon.ok(["exec", "first", "df", "-k", "/bin"])).split(/\s+/).at(-5));
      assert.ok(size >= 16 << 10 && size < 18 << 10, String(size));
      const full = await daemon.docker(["exec", "first", "dd", "if=/dev/zero", "of=/bin/big", "bs=1M", "count=32"]);
      assert.match(full.stderr, /No space left on device|Disk quota exceeded/);
      await daemon.kill();
      daemon = await startStrata({ root });
      await daemon.ok(["exec", "first", "rm", "/bin/big"]);
      assert.equal(mounted("limited"), 1);
      await daemon.ok(["rm", "-f", "first"]);
      await daemon.ok(["volume", "rm", "limited"]);
      assert.equal(mounted("limited"), 0);
    }
    assert.deepEqual(await leftBehind(join(root, "volumes/limited")), []);
    const { stderr } = await daemon.docker(["volume", "create", "-o", "size=much", "limited"]);
    assert.match(stderr, /create limited: invalid size: 'much'/);
  });

  test("a daemon that was killed knows who uses a mounted volume, and unmounts it after the last", async () => {
    await daemon.ok(["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m", "shared"]);
    await daemon.ok(["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "left"]);
    await runs("first", "shared");
    await runs("second", "left");
    await daemon.ok(["exec", "first", "sh", "-c", "echo kept > /d/f"]);
    const pid = await daemon.ok(["inspect", "-f", "{{.State.Pid}}", "second"]);
    await daemon.kill();
    // It ends while no daemon is there to unmount its volume.
    process.kill(Number(pid), "SIGKILL");
    daemon = await startStrata({ root });
    await daemon.ok(["wait", "second"]);
    assert.equal(mounted("shared"), 1, "under the running container nothing is unmounted");
    await daemon.ok(["rm", "second"]);
    await runs("second", "shared");
    assert.equal(await daemon.ok(["exec", "second", "cat", "/d/f"]), "kept");
    assert.equal(mounted("shared"), 1, "one mount for both");
    await daemon.ok(["rm", "-f", "first"]);
    assert.equal(await daemon.ok(["exec", "second", "cat", "/d/f"]), "kept");
    assert.match((await daemon.docker(["volume", "rm", "shared"])).stderr, /volume is in use/);
    await daemon.ok(["rm", "-f", "second"]);
    for (let tries = 0; mounted("shared") + mounted("left") > 0 && tries < 100; tries++)
      await new Promise((done) => setTimeout(done, 50));
    assert.deepEqual([mounted("shared"), mounted("left")], [0, 0]);
    await daemon.ok(["volume", "rm", "shared", "left"]);
  });

  test(`${together} containers that begin one new volume at once see the same whole tree (moby#43068)`, async () => {
    const files = Array.from({ length: 200 }, (_, index) => ({
      name: `d/${index % 10}/f${index}`,
      content: `${index}`,
    }));
    const base = Buffer.concat([tarOf({ name: "d", type: "5", mode: 0o2751 }, ...files)]);
    await daemon.ok(["import", "-", "files"], { input: base });
    await daemon.docker(["build", "-q", "-t", "filled", "-"], { input: "FROM bb\nCOPY --from=files /d /d\n" });
    const all = await Promise.all(
      Array.from({ length: together }, () =>
        daemon.docker([
          "run",
          "--rm",
          "--network",
          "none",
          "-v",
          "begun:/d",
          "filled",
          "sh",
          "-c",
          "find /d | sort | md5sum",
        ]),
      ),
    );
    const answers = new Set(all.map(({ code, stdout, stderr }) => `${code} ${stdout}${stderr}`));
    assert.equal(answers.size, 1, [...answers].join("\n"));
    const count = ["run", "--rm", "--network", "none", "-v", "begun:/d", "bb", "sh", "-c", "find /d -type f | wc -l"];
    assert.equal(await daemon.ok(count), "200");
    await daemon.ok(["volume", "rm", "begun"]);
    await daemon.ok(["rmi", "filled", "files"]);
  });
});
