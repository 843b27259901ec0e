import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { isError } from "../base/errors.ts";
import { RuntimeFixture, skipReason } from "./runtime.fixture.ts";

describe("after a restart of the daemon", { skip: skipReason ?? false, timeout: 20_000 }, () => {
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
