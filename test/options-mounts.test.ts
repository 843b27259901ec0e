/** Mounts of `docker run`: each form and each option of -v, --mount, --tmpfs and --volumes-from, seen in mountinfo. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { busyboxTar, type Daemon, scratchFolder, startStrata, unmountBelow } from "./support/engine.ts";

const skip = process.getuid?.() === 0 ? false : "the daemon needs root";

describe("mounts of run", { skip }, () => {
  const scratch = scratchFolder();
  const host = join(scratch.path, "host");
  let daemon: Daemon;

  before(async () => {
    daemon = await startStrata({ root: join(scratch.path, "strata") });
    const tar = await busyboxTar(join(scratch.path, "bb.tar"));
    await daemon.ok(["import", "-c", 'CMD ["sh"]', tar, "bb"]);
    mkdirSync(join(host, "inner"), { recursive: true });
    writeFileSync(join(host, "file"), "of the host\n");
    execFileSync("mount", ["-t", "tmpfs", "inner", join(host, "inner")]);
    writeFileSync(join(host, "inner/deep"), "deep\n");
  });

  after(async () => {
    const ids = (await daemon.ok(["ps", "-aq"])).split("\n").filter((id) => id !== "");
    if (ids.length > 0) await daemon.docker(["rm", "-f", "-v", ...ids]);
    await daemon.stop();
    await unmountBelow(scratch.path);
    scratch[Symbol.dispose]();
  });

  const run = (args: readonly string[], script: string): Promise<string> =>
    daemon.ok(["run", "--rm", ...args, "bb", "sh", "-c", script]);
  /** What follows the mount point in /proc/self/mountinfo: options, then propagation. */
  const infoOf = (args: readonly string[], target: string): Promise<string> =>
    run(args, `grep ' ${target} ' /proc/self/mountinfo | cut -d' ' -f6,7`);

  test("binds: by -v and by --mount, writable and not", async () => {
    assert.equal(await run(["-v", `${host}:/h`], "cat /h/file; echo new >/h/written"), "of the host");
    assert.equal(readFileSync(join(host, "written"), "utf8"), "new\n");
    for (const args of [
      ["-v", `${host}:/h:ro`],
      ["--mount", `type=bind,src=${host},dst=/h,readonly`],
    ]) {
      assert.match(await infoOf(args, "/h"), /^ro,/);
      assert.match(await run(args, "touch /h/x 2>&1; touch /h/inner/x 2>&1; true"), /(Read-only file system\n?.*){2}/s);
    }
    assert.equal(await run(["-v", `${join(host, "file")}:/etc/one`], "cat /etc/one"), "of the host");
    assert.equal(await run(["-v", `${join(scratch.path, "made/for/it")}:/m`], "ls /m | wc -l"), "0");
    assert.ok(existsSync(join(scratch.path, "made/for/it")));
  });

  test("binds: recursive or not, and what read-only means below", async () => {
    const bind = `type=bind,src=${host},dst=/h`;
    assert.equal(await run(["--mount", bind], "cat /h/inner/deep"), "deep");
    assert.equal(await run(["--mount", `${bind},bind-recursive=disabled`], "ls /h/inner"), "");
    const writable = ["--mount", `${bind},readonly,bind-recursive=writable`];
    assert.equal(
      await run(writable, "echo x >/h/inner/x && cat /h/inner/x; touch /h/x 2>&1 | grep -c Read-only"),
      "x\n1",
    );
  });

  test("binds: propagation is what was asked, and refused where the host's mount cannot", async () => {
    assert.doesNotMatch(await infoOf(["-v", `${host}:/h`], "/h"), /shared|master/);
    const shared = join(scratch.path, "shared");
    mkdirSync(shared);
    execFileSync("mount", ["-t", "tmpfs", "shared", shared]);
    execFileSync("mount", ["--make-shared", shared]);
    // the daemon is in this mount namespace, so it sees the mount as shared
    assert.match(await infoOf(["-v", `${shared}:/h:rshared`], "/h"), /shared:\d+/);
    assert.match(
      await infoOf(["--mount", `type=bind,src=${shared},dst=/h,bind-propagation=rslave`], "/h"),
      /master:\d+/,
    );
    const refused = await daemon.docker(["run", "--rm", "-v", `${host}:/h:rshared`, "bb", "true"]);
    assert.match(refused.stderr, /is mounted on .* but it is not a shared mount/);
    execFileSync("umount", [shared]);
  });

  test("volumes: made, filled from the image, kept, read-only, nocopy, subpath", async () => {
    await daemon.ok(["volume", "create", "--label", "x=y", "kept"]);
    assert.equal(await run(["-v", "kept:/etc"], "cat /etc/passwd | wc -l; echo more >/etc/more"), "2");
    assert.equal(await run(["--mount", "type=volume,src=kept,dst=/k"], "cat /k/more"), "more");
    assert.match(await run(["-v", "kept:/k:ro"], "touch /k/x 2>&1; true"), /Read-only/);
    assert.equal(
      await run(["-v", "bare:/etc:nocopy"], "ls /etc | grep -vc -E 'hosts|hostname|resolv.conf'; true"),
      "0",
    );
    assert.equal(await run(["--mount", "type=volume,src=bare2,dst=/bin2,volume-nocopy"], "ls /bin2"), "");
    await run(["-v", "kept:/k"], "mkdir -p /k/a/b; echo sub >/k/a/b/f; ln -s /etc /k/out");
    const sub = (path: string): readonly string[] => ["--mount", `type=volume,src=kept,dst=/s,volume-subpath=${path}`];
    assert.equal(await run(sub("a/b"), "cat /s/f"), "sub");
    for (const path of ["nowhere", "../..", "out"])
      assert.notEqual((await daemon.docker(["run", "--rm", ...sub(path), "bb", "true"])).code, 0, path);
    const labelled = "type=volume,src=labelled,dst=/l,volume-label=a=b,volume-driver=local";
    await run(["--mount", labelled], "true");
    assert.equal(await daemon.ok(["volume", "inspect", "-f", "{{.Labels.a}} {{.Driver}}", "labelled"]), "b local");
    await daemon.ok(["volume", "rm", "kept", "bare", "bare2", "labelled"]);
  });

  test("anonymous volumes: by -v, by the image's VOLUME, gone with --rm and with rm -v", async () => {
    const dockerfile = "FROM bb\nRUN mkdir /data && echo from-image >/data/f\nVOLUME /data\n";
    await daemon.ok(["build", "-q", "-t", "withvolume", "-"], { input: dockerfile });
    const volumes = (): Promise<string> => daemon.ok(["volume", "ls", "-q"]);
    assert.equal(await daemon.ok(["run", "--rm", "withvolume", "cat", "/data/f"]), "from-image");
    assert.equal(await run(["-v", "/anon"], "grep -c ' /anon ' /proc/mounts"), "1");
    assert.equal(await volumes(), "");
    await daemon.ok(["run", "--name", "holder", "withvolume", "true"]);
    assert.match(await volumes(), /^[0-9a-f]{64}$/);
    await daemon.ok(["rm", "-v", "holder"]);
    assert.equal(await volumes(), "");
  });

  test("volumes-from: the same volumes and binds, read-only when asked", async () => {
    await daemon.ok([
      "run",
      "--name",
      "source",
      "-v",
      "named:/n",
      "-v",
      `${host}:/h`,
      "bb",
      "sh",
      "-c",
      "echo s >/n/f",
    ]);
    assert.equal(await run(["--volumes-from", "source"], "cat /n/f /h/file; echo t >/n/f"), "s\nof the host");
    assert.match(await run(["--volumes-from", "source:ro"], "cat /n/f; touch /n/x 2>&1; true"), /^t\n.*Read-only/);
    await daemon.ok(["rm", "source"]);
    await daemon.ok(["volume", "rm", "named"]);
  });

  test("tmpfs: Docker's defaults, sizes and modes", async () => {
    assert.match(await infoOf(["--tmpfs", "/t"], "/t"), /^rw,nosuid,nodev,noexec/);
    const sized = ["--mount", "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1750"];
    assert.equal(await run(sized, "stat -c %a /t; df -k /t | tail -1 | tr -s ' ' | cut -d' ' -f2"), "1750\n1024");
    assert.equal(await run(sized, "head -c 2000000 /dev/zero >/t/f 2>/dev/null; stat -c %s /t/f"), String(2 ** 20));
    assert.match(await infoOf(["--mount", "type=tmpfs,dst=/t,readonly"], "/t"), /^ro,/);
  });

  test("a read-only root lets volumes and tmpfs be written, and the engine's files not", async () => {
    const script =
      "touch /v/x /t/x && echo ok; touch /x 2>&1 | grep -c Read-only; (echo x >>/etc/hosts) 2>&1 | grep -c Read-only";
    assert.equal(await run(["--read-only", "-v", "/v", "--tmpfs", "/t"], script), "ok\n1\n1");
  });

  test("nothing of a container's mounts stays on the host when it has ended", async () => {
    await run(["-v", "last:/v", "--mount", "type=volume,src=last,dst=/s", "--tmpfs", "/t", "-v", `${host}:/h`], "true");
    const left = readFileSync(`/proc/${daemon.pid}/mountinfo`, "utf8")
      .split("\n")
      .filter((line) => line.includes(join(scratch.path, "strata")));
    assert.deepEqual(left, []);
    await daemon.ok(["volume", "rm", "last"]);
  });
});
