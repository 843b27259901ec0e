/**
 * A data root that is full: on a small filesystem, in the middle of what clients do and with nothing left at all. Each failure
 * says that there is no space and leaves nothing half-made; the daemon goes on, and what frees space works.
 */
import assert from "node:assert/strict";
import { rmSync, statfsSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type LoopFilesystem, makeLoopFilesystem } from "../src/host/loop.ts";
import { problemsOf } from "./support/check.ts";
import {
  busyboxTar,
  command,
  type Daemon,
  scratchFolder,
  startStrata,
  succeed,
  unmountBelow,
} from "./support/engine.ts";
import { endProcesses } from "./support/processes.ts";

const mebibyte = 1 << 20;
/** What each step wants, and what it finds. */
const wanted = 24;
const left = 10;
const noSpace = /no space|disk quota/i;

for (const driver of ["overlay2", "vfs"]) {
  describe(`a full data root on ${driver}`, () => {
    const scratch = scratchFolder();
    const root = join(scratch.path, "strata");
    const path = (name: string): string => join(scratch.path, name);
    let filesystem: LoopFilesystem;
    let daemon: Daemon;

    const start = (): Promise<Daemon> => startStrata({ root, dataRoot: join(filesystem.path, "data"), driver });
    const hog = (): string => join(filesystem.path, "hog");
    const free = (): number => {
      const { bfree, bsize } = statfsSync(filesystem.path);
      return bfree * bsize;
    };
    const makeRoom = (): void => rmSync(hog(), { force: true });
    /** Takes all but so many MiB. */
    const leave = async (mebibytes: number): Promise<void> => {
      makeRoom();
      const size = free() - mebibytes * mebibyte;
      if (mebibytes > 0) await succeed("fallocate", ["-l", String(size), hog()]);
      else await takeTheRest();
    };
    const takeTheRest = async (): Promise<void> => {
      const { stderr } = await command("sh", ["-c", `cat /dev/zero >>${hog()}`]);
      assert.match(stderr, noSpace);
    };
    const random = `head -c ${wanted * mebibyte} /dev/urandom`;

    /** Everything that a client can see. */
    const seen = async (): Promise<string> => {
      const lists = [
        ["images", "-aq", "--no-trunc"],
        ["ps", "-aq", "--no-trunc"],
        ["volume", "ls", "-q"],
      ];
      const texts: string[] = [];
      for (const list of lists) texts.push(await daemon.ok(list));
      return texts.join("\n--\n");
    };

    /** The command fails for want of space; afterwards all is as it was, and the space is free again. */
    const overflows = async (args: readonly string[], says = noSpace, input?: string): Promise<void> => {
      await leave(left);
      const [sight, before] = [await seen(), free()];
      const { code, stdout, stderr } = await daemon.docker(args, input === undefined ? {} : { input });
      assert.notEqual(code, 0, `${args[0]} succeeds: ${stdout}`);
      assert.match(stderr + stdout, says);
      assert.equal(await seen(), sight, "what was half-made is in sight");
      for (let tries = 0; free() < before - mebibyte && tries < 200; tries++) await sleep(50);
      assert.ok(free() >= before - mebibyte, `${args[0]} keeps ${before - free()} bytes`);
    };

    before(async () => {
      filesystem = await makeLoopFilesystem({ type: "ext4", size: 320 * mebibyte, directory: scratch.path });
      daemon = await start();
      await daemon.ok(["import", await busyboxTar(path("bb.tar")), "bb"]);
      const context = path("context");
      await succeed("sh", [
        "-c",
        `mkdir ${context} ${path("plain")}; cd ${context}; ${random} >big; tar -cf ${path("big.tar")} big; printf 'FROM bb\\nCOPY big /big\\n' >Dockerfile; printf 'FROM bb\\nRUN dd if=/dev/zero of=/big bs=1M count=${wanted}\\n' >${path("plain")}/Dockerfile`,
      ]);
      await daemon.ok(["build", "-q", "-t", "loadable", context]);
      await daemon.ok(["save", "-o", path("loadable.tar"), "loadable"]);
      await daemon.ok(["rmi", "loadable"]);
      await daemon.ok(["volume", "create", "data"]);
      await daemon.ok(["run", "-d", "--name", "idle", "-v", "data:/data", "bb", "sleep", "100000"]);
    });

    after(async () => {
      makeRoom();
      const ids = (await daemon.docker(["ps", "-aq"])).stdout.split("\n").filter((id) => id !== "");
      if (ids.length > 0) await daemon.docker(["rm", "-f", ...ids]);
      await daemon.stop();
      // After a failure too, the machine gets everything back.
      endProcesses(root);
      await unmountBelow(join(root, "exec"));
      await filesystem[Symbol.asyncDispose]();
      scratch[Symbol.dispose]();
    });

    test("import", () => overflows(["import", path("big.tar"), "big"]));
    test("load", () => overflows(["load", "-q", "-i", path("loadable.tar")]));
    test("build: its context, and what COPY copies", () => overflows(["build", "-q", path("context")]));
    test("build: what RUN writes", () =>
      overflows(["build", "-q", path("plain")], /No space left on device|non-zero code/));
    test("run: what the container writes", async () => {
      await overflows(["run", "--rm", "bb", "dd", "if=/dev/zero", "of=/big", "bs=1M", `count=${wanted}`]);
    });
    test("exec: what it writes to the volume", async () => {
      await leave(left);
      const { code, stderr } = await daemon.docker([
        "exec",
        "idle",
        "dd",
        "if=/dev/zero",
        "of=/data/big",
        "bs=1M",
        `count=${wanted}`,
      ]);
      assert.notEqual(code, 0);
      assert.match(stderr, noSpace);
      await daemon.ok(["exec", "idle", "rm", "/data/big"]);
    });
    test("cp into a container", async () => {
      await leave(left);
      const { code, stderr } = await daemon.docker(["cp", join(path("context"), "big"), "idle:/big"]);
      assert.notEqual(code, 0);
      assert.match(stderr, noSpace);
      await daemon.ok(["exec", "idle", "sh", "-c", "rm -f /big"]);
    });
    test("commit", async () => {
      makeRoom();
      await daemon.ok(["run", "--name", "grown", "bb", "dd", "if=/dev/urandom", "of=/big", "bs=1M", `count=${wanted}`]);
      await overflows(["commit", "grown", "grown"]);
      await daemon.ok(["rm", "grown"]);
    });
    test("a container's log that finds no space does not stop it, and another container can start", async () => {
      await leave(left);
      const script = `yes ${"x".repeat(500)} | head -c ${wanted * mebibyte}; echo done >/tmp/done`;
      await daemon.docker(["run", "-d", "--name", "talker", "--tmpfs", "/tmp", "bb", "sh", "-c", script]);
      const code = (await daemon.docker(["wait", "talker"], { deadline: 60_000 })).stdout.trim();
      assert.equal(code, "0");
      assert.equal((await daemon.docker(["logs", "--tail", "1", "talker"])).code, 0);
      await daemon.ok(["rm", "-f", "talker"]);
      assert.equal(await daemon.ok(["run", "--rm", "bb", "echo", "alive"]), "alive");
    });

    test("with nothing left, what frees space works: rm, rmi, volume rm, prune; and so does a restart", async () => {
      makeRoom();
      for (const name of ["one", "two"]) {
        await daemon.ok(["import", path("big.tar"), name]);
        await daemon.ok(["create", "--name", name, "bb", "true"]);
        await daemon.ok(["volume", "create", name]);
      }
      await daemon.ok(["run", "-d", "--name", "busy", "bb", "sleep", "100000"]);
      await leave(0);
      const refused = await daemon.docker(["import", path("big.tar"), "big"]);
      assert.notEqual(refused.code, 0);
      assert.match(refused.stderr, noSpace);
      for (const args of [
        ["rm", "-f", "busy"],
        ["rm", "one"],
        ["volume", "rm", "one"],
      ])
        await daemon.ok(args);
      await daemon.kill();
      await takeTheRest();
      daemon = await start();
      await daemon.ok(["rm", "two"]);
      await daemon.stop();
      daemon = await start();
      const before = free();
      await daemon.ok(["rmi", "one"]);
      await daemon.ok(["image", "prune", "-af"]);
      await daemon.ok(["volume", "prune", "-af"]);
      for (let tries = 0; free() < before + (wanted - 1) * mebibyte && tries < 200; tries++) await sleep(50);
      assert.ok(free() >= before + (wanted - 1) * mebibyte, "the image's space is free");
      assert.doesNotMatch(await daemon.ok(["ps", "-a"]), /busy|one|two/);
    });

    test("once there is room, everything works, and a check finds nothing", async () => {
      makeRoom();
      await daemon.ok(["load", "-q", "-i", path("loadable.tar")]);
      assert.equal(await daemon.ok(["run", "--rm", "loadable", "sh", "-c", "wc -c </big"]), String(wanted * mebibyte));
      await daemon.ok(["build", "-q", path("context")]);
      await daemon.ok(["commit", "idle", "committed"]);
      await daemon.ok(["rm", "-f", "idle"]);
      await daemon.stop();
      assert.deepEqual(await problemsOf(daemon), []);
      daemon = await start();
    });
  });
}
