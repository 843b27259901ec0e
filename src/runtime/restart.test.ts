import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { until } from "../../test/support/until.ts";
import { isError } from "../base/errors.ts";
import { buildProcess } from "./process-spec.ts";
import { RuntimeFixture, skipReason } from "./runtime.fixture.ts";

describe("after a restart of the daemon", { skip: skipReason ?? false, timeout: 120_000 }, () => {
  let fixture: RuntimeFixture;
  before(async () => {
    fixture = await RuntimeFixture.open();
  });
  after(() => fixture[Symbol.asyncDispose]());

  test("a container that runs is known, can be waited for and killed", async () => {
    const container = await fixture.create(["sleep", "100"]);
    await fixture.runtime.start(container.id);
    const before = assert.rejects(fixture.runtime.exited(container.id), (error) => isError(error, "unavailable"));
    await fixture.restart();
    await before;
    assert.deepEqual(await fixture.runtime.list(), [container.id]);
    assert.equal(await fixture.runtime.pid(container.id), container.pid);
    const exited = fixture.runtime.exited(container.id);
    await fixture.runtime.kill(container.id, 9);
    assert.equal((await exited).code, 137);
    await fixture.runtime.remove(container.id);
  });

  test("one that ended meanwhile has its exit code and time", async () => {
    const container = await fixture.create(["sh", "-c", "sleep 0.2; exit 7"]);
    await fixture.runtime.start(container.id);
    await fixture.runtime[Symbol.asyncDispose]();
    await sleep(600);
    const late = Date.now();
    await fixture.restart();
    const status = await fixture.runtime.exited(container.id);
    assert.equal(status.code, 7);
    assert.ok(status.at < late - 100, "the time is that of the end, not that of the question");
    await fixture.runtime.remove(container.id);
  });

  test("a container whose conmon was killed is ended and told as 137", async () => {
    const container = await fixture.create(["sleep", "100"]);
    await fixture.runtime.start(container.id);
    const pid = readFileSync(join(fixture.execRoot, "containers", container.id, "conmon.pid"), "utf8");
    const exited = fixture.runtime.exited(container.id);
    process.kill(Number(pid), "SIGKILL");
    assert.equal((await exited).code, 137);
    assert.equal(await fixture.runtime.pid(container.id), undefined);
    await fixture.runtime.remove(container.id);
  });

  describe("an exec", () => {
    const start = async (script: string, note: object): Promise<{ readonly id: string; readonly folder: string }> => {
      const { id } = await fixture.create(["sleep", "100"]);
      await fixture.runtime.start(id);
      const process = await buildProcess(fixture.input(id, ["sh", "-c", script]));
      await fixture.runtime.exec({ id, execId: "x", process, tty: false, stdin: false, note }, false);
      return { id, folder: join(fixture.execRoot, "containers", id, "exec") };
    };

    test("that goes on is found with what was noted of it, and its exit code comes", async () => {
      const { id, folder } = await start("until test -e /tmp/go-on; do sleep 0.1; done; exit 7", { by: "whom" });
      await fixture.restart();
      const [found, ...more] = await fixture.runtime.execs(id);
      assert.ok(found !== undefined && more.length === 0);
      assert.deepEqual([found.execId, found.note], ["x", { by: "whom" }]);
      assert.match(readFileSync(`/proc/${found.pid}/cmdline`, "utf8"), /go-on/);
      await writeFile(join(fixture.rootfs, "tmp/go-on"), "");
      assert.equal((await found.exited).code, 7);
      assert.deepEqual(readdirSync(folder), []);
      assert.deepEqual(await fixture.runtime.execs(id), []);
      await fixture.runtime.remove(id);
    });

    test("that ended meanwhile has its exit code and time", async () => {
      const { id, folder } = await start("sleep 0.3; exit 5", {});
      await fixture.runtime[Symbol.asyncDispose]();
      await until("conmon has written it", () => readdirSync(join(folder, "x/exit")).length > 0);
      const late = Date.now();
      await sleep(50);
      await fixture.restart();
      const [found] = await fixture.runtime.execs(id);
      const status = await found?.exited;
      assert.equal(status?.code, 5);
      assert.ok(status !== undefined && status.at <= late, "the time is that of the end");
      await fixture.runtime.remove(id);
    });

    test("whose conmon was killed is ended and told as 137; a runtime that closes tells nothing", async () => {
      const { id, folder } = await start("sleep 100", {});
      await fixture.restart();
      const [waiting] = await fixture.runtime.execs(id);
      const closed = assert.rejects(waiting?.exited ?? Promise.resolve(), { code: "unavailable" });
      await fixture.restart();
      await closed;
      const [found] = await fixture.runtime.execs(id);
      process.kill(Number(readFileSync(join(folder, "x/conmon.pid"), "utf8")), "SIGKILL");
      assert.equal((await found?.exited)?.code, 137);
      // Ended, though perhaps nobody has taken note of it yet: then it has no words.
      const words = existsSync(`/proc/${found?.pid}`) ? readFileSync(`/proc/${found?.pid}/cmdline`, "utf8") : "";
      assert.ok(found !== undefined && found.pid > 0 && !words.includes("sleep"), "its command was ended");
      await fixture.runtime.remove(id);
    });
  });

  test("a half-made container, without the record, is known by its pid files and can be removed", async () => {
    const container = await fixture.create(["sleep", "100"]);
    // The record is written behind create's back: asking for statistics waits for it.
    await fixture.runtime.stats(container.id);
    await rm(join(fixture.execRoot, "containers", container.id, "process.json"));
    await fixture.restart();
    assert.equal(await fixture.runtime.pid(container.id), container.pid);
    await fixture.runtime.remove(container.id);
  });
});
