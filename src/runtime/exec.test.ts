import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { isError } from "../base/errors.ts";
import { buildProcess, type ProcessInput } from "./process-spec.ts";
import { type Container, collect, RuntimeFixture, skipReason } from "./runtime.fixture.ts";
import type { ExecOptions } from "./runtime.ts";
import { startExitCode } from "./runtime-words.ts";

describe("exec", { skip: skipReason ?? false, timeout: 60_000 }, () => {
  let fixture: RuntimeFixture;
  let container: Container;
  let count = 0;
  before(async () => {
    fixture = await RuntimeFixture.open();
    container = await fixture.create(["sleep", "1000"]);
    await fixture.runtime.start(container.id);
  });
  after(() => fixture[Symbol.asyncDispose]());

  async function options(
    args: readonly string[],
    change: Partial<ProcessInput & ExecOptions> = {},
  ): Promise<ExecOptions> {
    const process = await buildProcess({ ...fixture.input(container.id, args), ...change });
    return { id: container.id, execId: `x${count++}`, process, tty: change.tty ?? false, stdin: change.stdin ?? false };
  }

  test("gives output by stream and the exit code, and leaves nothing", async () => {
    const { runtime } = fixture;
    for (let round = 0; round < 5; round++) {
      const session = await runtime.exec(await options(["sh", "-c", "echo out; echo err >&2; exit 6"]), true);
      assert.ok(session.attachment !== undefined && session.pid > 0);
      await using attachment = session.attachment;
      assert.deepEqual(await collect(attachment), { stdout: "out\n", stderr: "err\n" });
      const status = await session.exited;
      assert.equal(status.code, 6);
      assert.ok(Math.abs(status.at - Date.now()) < 5000);
    }
    assert.deepEqual(readdirSync(join(fixture.execRoot, "containers", container.id, "exec")), []);
  });

  test("detached it runs without anybody", async () => {
    const session = await fixture.runtime.exec(
      await options(["sh", "-c", "echo x; touch /tmp/was-here; exit 2"]),
      false,
    );
    assert.equal(session.attachment, undefined);
    assert.equal((await session.exited).code, 2);
    assert.ok(existsSync(join(fixture.rootfs, "tmp/was-here")));
  });

  test("takes stdin to its end", async () => {
    const session = await fixture.runtime.exec(await options(["wc", "-c"], { stdin: true }), true);
    assert.ok(session.attachment !== undefined);
    await using attachment = session.attachment;
    const output = collect(attachment);
    await attachment.write(new Uint8Array(300_000));
    await attachment.closeStdin();
    assert.equal((await output).stdout, "300000\n");
    assert.equal((await session.exited).code, 0);
  });

  test("has a terminal of its own with its own size", async () => {
    const execution = await options(["sh", "-c", "read x; stty size; tty_ok=$(test -t 0 && echo yes); echo $tty_ok"], {
      tty: true,
      stdin: true,
    });
    const session = await fixture.runtime.exec(execution, true);
    assert.ok(session.attachment !== undefined);
    await using attachment = session.attachment;
    const output = collect(attachment);
    await fixture.runtime.resize(container.id, execution.execId, { height: 21, width: 77 });
    await attachment.write(Buffer.from("go\n"));
    assert.match((await output).stdout, /21 77\r\nyes\r\n/);
    assert.equal((await session.exited).code, 0);
    await assert.rejects(fixture.runtime.resize(container.id, execution.execId, { height: 1, width: 1 }), (error) =>
      isError(error, "not_found"),
    );
  });

  test("user, directory and environment are those that are asked for", async () => {
    const change = { user: { uid: 1000, gid: 1001, additionalGids: [10] }, cwd: "/tmp", env: ["PATH=/bin", "A=b"] };
    const session = await fixture.runtime.exec(await options(["sh", "-c", "id -u; id -G; pwd; echo $A"], change), true);
    assert.ok(session.attachment !== undefined);
    await using attachment = session.attachment;
    assert.equal((await collect(attachment)).stdout, "1000\n1001 10\n/tmp\nb\n");
  });

  test("a command that is not there is 127, one that may not run is 126, in Docker's words", async () => {
    const missing = await options(["no-such-command"]);
    for (const attached of [true, false])
      await assert.rejects(fixture.runtime.exec(missing, attached), (error) => {
        assert.ok(isError(error, "invalid_argument"));
        assert.equal(
          error.message,
          'OCI runtime exec failed: exec failed: unable to start container process: exec: "no-such-command": executable file not found in $PATH: unknown',
        );
        assert.equal(startExitCode(error.message), 127);
        return true;
      });
    await assert.rejects(fixture.runtime.exec(await options(["/etc/passwd"]), true), (error) => {
      assert.ok(isError(error, "invalid_argument"));
      assert.equal(startExitCode(error.message), 126);
      return true;
    });
    assert.deepEqual(readdirSync(join(fixture.execRoot, "containers", container.id, "exec")), []);
  });

  test("in a container that does not run it is not_found", async () => {
    const ended = await fixture.create(["true"]);
    await fixture.runtime.start(ended.id);
    await fixture.runtime.exited(ended.id);
    const request = { ...(await options(["true"])), id: ended.id };
    await assert.rejects(fixture.runtime.exec(request, true), (error) => isError(error, "not_found"));
    await fixture.runtime.remove(ended.id);
  });

  test("ends with its container", async () => {
    const other = await fixture.create(["sleep", "1000"]);
    await fixture.runtime.start(other.id);
    const session = await fixture.runtime.exec({ ...(await options(["sleep", "1000"])), id: other.id }, true);
    assert.ok(session.attachment !== undefined);
    await using _attachment = session.attachment;
    // The runtime answers just before its process becomes the command.
    const commandLine = (): string => readFileSync(`/proc/${session.pid}/cmdline`, "utf8");
    for (let look = 0; look < 500 && !commandLine().startsWith("sleep"); look++) await sleep(10);
    assert.match(commandLine(), /^sleep/);
    await fixture.runtime.kill(other.id, 9);
    assert.equal((await session.exited).code, 137);
    await fixture.runtime.remove(other.id);
  });

  test("many at once have each their own output", async () => {
    const all = Array.from({ length: 8 }, async (_, index) => {
      const session = await fixture.runtime.exec(await options(["sh", "-c", `echo ${index}; exit ${index}`]), true);
      assert.ok(session.attachment !== undefined);
      await using attachment = session.attachment;
      assert.equal((await collect(attachment)).stdout, `${index}\n`);
      assert.equal((await session.exited).code, index);
    });
    await Promise.all(all);
    await sleep(10);
  });
});
