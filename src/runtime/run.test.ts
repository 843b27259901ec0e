import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { readFile, symlink } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { until } from "../../test/support/until.ts";
import { isError } from "../base/errors.ts";
import { openRuntime } from "./open-runtime.ts";
import { cgroupsOf, logLines, RuntimeFixture, skipReason } from "./runtime.fixture.ts";
import { buildSpec } from "./spec.ts";

describe("a container's life", { skip: skipReason ?? false, timeout: 40_000 }, () => {
  let fixture: RuntimeFixture;
  before(async () => {
    fixture = await RuntimeFixture.open();
  });
  after(() => fixture[Symbol.asyncDispose]());

  test("runs to its exit code, with its output in the log", async () => {
    const { runtime } = fixture;
    const container = await fixture.create(["sh", "-c", "echo out; echo err >&2; exit 3"]);
    const before = Date.now();
    const exited = runtime.exited(container.id);
    await runtime.start(container.id);
    const status = await exited;
    assert.equal(status.code, 3);
    assert.equal(status.oomKilled, false);
    assert.ok(status.at >= before - 1000 && status.at <= Date.now() + 1000);
    assert.deepEqual((await logLines(container.log)).sort(), ["err", "out"]);
    assert.equal(await runtime.pid(container.id), undefined);
    assert.equal((await runtime.exited(container.id)).code, 3, "asked again, it is the same");
    await runtime.remove(container.id);
    await runtime.remove(container.id);
    assert.deepEqual(cgroupsOf(container.id), []);
  });

  test("waits between create and start, and starts only once", async () => {
    const { runtime } = fixture;
    const container = await fixture.create(["sleep", "100"]);
    assert.equal(await runtime.pid(container.id), container.pid);
    assert.match(readFileSync(`/proc/${container.pid}/comm`, "utf8"), /runc/);
    await runtime.start(container.id);
    for (let i = 0; i < 100 && /runc/.test(readFileSync(`/proc/${container.pid}/comm`, "utf8")); i++) await sleep(10);
    assert.equal(readFileSync(`/proc/${container.pid}/comm`, "utf8").trim(), "sleep");
    await assert.rejects(
      runtime.start(container.id),
      (error) => isError(error, "conflict") && /already running/.test(error.message),
    );
    await runtime.remove(container.id);
    assert.equal(existsSync(`/proc/${container.pid}`), false);
  });

  test("a command that does not exist is told in Docker's words, and nothing stays", async () => {
    await assert.rejects(fixture.create(["no-such-command"]), (error) => {
      assert.ok(isError(error, "invalid_argument"));
      assert.equal(
        error.message,
        'failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: "no-such-command": executable file not found in $PATH: unknown',
      );
      return true;
    });
    assert.deepEqual(await fixture.runtime.list(), []);
  });

  test("a command that may not be run is told too", async () => {
    await assert.rejects(fixture.create(["/etc/passwd"]), (error) => {
      assert.ok(isError(error, "invalid_argument"));
      assert.match(error.message, /exec: "\/etc\/passwd": permission denied: unknown$/);
      return true;
    });
  });

  test("a signal ends it with 128 and the signal's number; a second one finds nothing", async () => {
    const { runtime } = fixture;
    const container = await fixture.create(["sleep", "100"]);
    await runtime.start(container.id);
    await runtime.kill(container.id, 9);
    assert.equal((await runtime.exited(container.id)).code, 137);
    await assert.rejects(runtime.kill(container.id, 15), (error) => isError(error, "not_found"));
    await runtime.remove(container.id);
  });

  test("a created container that is never started can be removed; who waits is told", async () => {
    const { runtime } = fixture;
    const container = await fixture.create(["true"]);
    const exited = runtime.exited(container.id);
    await runtime.remove(container.id);
    assert.equal((await exited).code, 137);
    await assert.rejects(runtime.exited(container.id), (error) => isError(error, "not_found"));
  });

  test("paused it does nothing, resumed it goes on, and it can be removed while paused", async () => {
    const { runtime } = fixture;
    const container = await fixture.create(["sh", "-c", "while true; do echo x; sleep 0.02; done"]);
    await runtime.start(container.id);
    await sleep(100);
    await runtime.pause(container.id);
    await sleep(50);
    const still = (await logLines(container.log)).length;
    await sleep(200);
    assert.equal((await logLines(container.log)).length, still);
    await runtime.resume(container.id);
    await sleep(200);
    assert.ok((await logLines(container.log)).length > still);
    await runtime.pause(container.id);
    await runtime.remove(container.id);
  });

  test("limits are in the cgroup, at create and after update", async () => {
    const { runtime } = fixture;
    const resources = { memory: 64 << 20, pids: 50, cpuShares: 512, nanoCpus: 500_000_000 };
    const container = await fixture.create(["sleep", "100"], { resources });
    await runtime.start(container.id);
    const read = async (controller: string, name: string): Promise<string> =>
      (await readFile(join("/sys/fs/cgroup", controller, "strata", container.id, name), "utf8")).trim();
    if (existsSync("/sys/fs/cgroup/memory")) {
      assert.equal(await read("memory", "memory.limit_in_bytes"), `${64 << 20}`);
      assert.equal(await read("pids", "pids.max"), "50");
      assert.equal(await read("cpu", "cpu.shares"), "512");
      assert.equal(await read("cpu", "cpu.cfs_quota_us"), "50000");
      await runtime.update(container.id, { memory: 96 << 20, memorySwap: 192 << 20, pids: 60 });
      assert.equal(await read("memory", "memory.limit_in_bytes"), `${96 << 20}`);
      assert.equal(await read("pids", "pids.max"), "60");
      assert.equal(await read("cpu", "cpu.shares"), "512");
    } else {
      assert.equal(await read("", "memory.max"), `${64 << 20}`);
      await runtime.update(container.id, { memory: 96 << 20 });
      assert.equal(await read("", "memory.max"), `${96 << 20}`);
    }
    // The threads of what starts it are counted until it runs the program.
    await until("it is alone", async () => (await runtime.stats(container.id)).pids === 1);
    const stats = await runtime.stats(container.id);
    assert.equal(stats.memoryLimit, 96 << 20);
    assert.ok(stats.memoryUsage > 0 && stats.memoryUsage < 96 << 20);
    assert.ok(stats.cpuTotal > 0 && stats.systemCpu > stats.cpuTotal && stats.onlineCpus >= 1);
    await runtime.remove(container.id);
  });

  test("memory beyond the limit is an OOM kill", async () => {
    const { runtime } = fixture;
    const args = ["sh", "-c", "dd if=/dev/zero of=/dev/null bs=200M count=1; exit 9"];
    const container = await fixture.create(args, { resources: { memory: 16 << 20 } });
    await runtime.start(container.id);
    const status = await runtime.exited(container.id);
    assert.equal(status.oomKilled, true);
    await runtime.remove(container.id);
  });

  test("top shows the container's processes and no others", async () => {
    const { runtime } = fixture;
    const container = await fixture.create(["sh", "-c", "sleep 100 & sleep 101; true"]);
    await runtime.start(container.id);
    await sleep(100);
    const table = await runtime.top(container.id, []);
    assert.deepEqual(table.titles, ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
    const commands = table.processes.map((row) => row[7]).sort();
    assert.deepEqual(commands, ["sh -c sleep 100 & sleep 101; true", "sleep 100", "sleep 101"]);
    assert.ok(table.processes.some((row) => row[1] === `${container.pid}`));
    assert.deepEqual((await runtime.top(container.id, ["-o", "pid"])).titles, ["PID"]);
    await assert.rejects(runtime.top(container.id, ["-o", "comm"]), /Couldn't find PID field in ps output/);
    await assert.rejects(runtime.top(container.id, ["-eo", "pid=x, ppid=PID"]), /specifying "ppid=PID" is not allowed/);
    await runtime.remove(container.id);
  });

  test("without a log nothing is written", async () => {
    const { runtime } = fixture;
    const id = `test-nolog-${process.pid}`;
    const spec = await buildSpec(fixture.input(id, ["echo", "hi"]));
    await runtime.create({
      id,
      spec,
      tty: false,
      stdin: false,
      keepStdin: false,
      logPath: undefined,
      logSizeMax: undefined,
    });
    await runtime.start(id);
    assert.equal((await runtime.exited(id)).code, 0);
    await runtime.remove(id);
    assert.deepEqual(cgroupsOf(id), []);
  });

  test("where the fifo is not known, the runtime's own start does it", async () => {
    const program = join(fixture.directory, "other-oci");
    await symlink("/usr/sbin/runc", program);
    const options = { execRoot: fixture.execRoot, program };
    await using other = await openRuntime(options);
    const container = await fixture.create(["sh", "-c", "exit 8"]);
    await other.start(container.id);
    assert.equal((await other.exited(container.id)).code, 8);
    await other.remove(container.id);
  });

  test("a container that died before its start is told so", async () => {
    const { runtime } = fixture;
    const container = await fixture.create(["true"]);
    await runtime.kill(container.id, 9);
    await runtime.exited(container.id);
    await assert.rejects(runtime.start(container.id), (error) => isError(error, "not_found"));
    await runtime.remove(container.id);
  });

  test("many at once are created, run and removed", async () => {
    const codes = await Promise.all(
      Array.from({ length: 10 }, async (_, index) => (await fixture.run(["sh", "-c", `exit ${index}`])).code),
    );
    assert.deepEqual(codes, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  });

  test("an id with a path in it is refused", async () => {
    await assert.rejects(fixture.runtime.remove("../x"), (error) => isError(error, "invalid_argument"));
  });
});
