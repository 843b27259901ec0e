import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { isError } from "../base/errors.ts";
import { collect, logLines, RuntimeFixture, skipReason } from "./runtime.fixture.ts";
import type { Attachment } from "./runtime.ts";

describe("stdio of a container", { skip: skipReason ?? false, timeout: 60_000 }, () => {
  let fixture: RuntimeFixture;
  before(async () => {
    fixture = await RuntimeFixture.open({ stallLimit: 700 });
  });
  after(() => fixture[Symbol.asyncDispose]());

  test("stdout and stderr come apart, from the first byte on", async () => {
    for (let round = 0; round < 5; round++) {
      const result = await fixture.run(["sh", "-c", "echo out; echo err >&2; exit 4"]);
      assert.deepEqual(result, { code: 4, stdout: "out\n", stderr: "err\n" });
    }
  });

  test("binary stdin of 1 MB comes back as it was, after its end was told", async () => {
    const { runtime } = fixture;
    const container = await fixture.create(["cat"], { stdin: true });
    await using attachment = await container.attach();
    await runtime.start(container.id);
    const data = randomBytes(1_000_000);
    const received: Uint8Array[] = [];
    const reading = (async () => {
      for await (const { stream, data: part } of attachment.output) {
        assert.equal(stream, "stdout");
        received.push(part);
      }
    })();
    for (let at = 0; at < data.length; at += 50_000) await attachment.write(data.subarray(at, at + 50_000));
    await attachment.closeStdin();
    await reading;
    assert.ok(Buffer.concat(received).equals(data));
    assert.equal((await runtime.exited(container.id)).code, 0);
    await runtime.remove(container.id);
  });

  test("two clients see the same; one that leaves does not disturb the other when stdin is kept", async () => {
    const { runtime } = fixture;
    const container = await fixture.create(["cat"], { stdin: true, keepStdin: true });
    const first = await container.attach();
    await using second = await runtime.attach(container.id);
    const heard = collect(second);
    await runtime.start(container.id);
    await first.write(Buffer.from("one\n"));
    await sleep(100);
    await first[Symbol.asyncDispose]();
    await second.write(Buffer.from("two\n"));
    await sleep(100);
    await runtime.kill(container.id, 9);
    assert.equal((await heard).stdout, "one\ntwo\n");
    await runtime.remove(container.id);
  });

  test("without keeping, stdin ends when its client leaves", async () => {
    const { runtime } = fixture;
    const container = await fixture.create(["sh", "-c", "cat; echo over"], { stdin: true });
    const attachment = await container.attach();
    await runtime.start(container.id);
    await attachment[Symbol.asyncDispose]();
    assert.equal((await runtime.exited(container.id)).code, 0);
    assert.deepEqual(await logLines(container.log), ["over"]);
    await runtime.remove(container.id);
  });

  test("a terminal is one, has the size it is given, and its client may leave", async () => {
    const { runtime } = fixture;
    const script = "read x; stty size; read x; stty size; read x; exit 5";
    const container = await fixture.create(["sh", "-c", script], { tty: true, stdin: true });
    const attachment = await container.attach();
    const lines = lineReader(attachment);
    await runtime.start(container.id);
    await runtime.resize(container.id, undefined, { height: 33, width: 101 });
    await attachment.write(Buffer.from("a\n"));
    await lines("33 101");
    await runtime.resize(container.id, undefined, { height: 44, width: 5000 });
    await attachment.write(Buffer.from("b\n"));
    await lines("44 1000");
    await attachment[Symbol.asyncDispose]();
    await sleep(50);
    assert.notEqual(await runtime.pid(container.id), undefined);
    await using again = await runtime.attach(container.id);
    await again.write(Buffer.from("c\n"));
    assert.equal((await runtime.exited(container.id)).code, 5);
    await runtime.remove(container.id);
  });

  test("a reader slower than the container holds it up and loses nothing", async () => {
    const { runtime } = fixture;
    const size = 8_000_000;
    const container = await fixture.create(["sh", "-c", `head -c ${size} /dev/zero | tr '\\000' 'x'`]);
    await using attachment = await container.attach();
    await runtime.start(container.id);
    let length = 0;
    let rests = 0;
    for await (const { data } of attachment.output) {
      length += data.length;
      if (length > rests * 2_000_000) {
        rests += 1;
        await sleep(150);
      }
    }
    assert.equal(length, size);
    assert.equal((await runtime.exited(container.id)).code, 0);
    await runtime.remove(container.id);
  });

  test("a reader that stops is cut off; the container and its log go on", async () => {
    const { runtime } = fixture;
    const size = 6_000_000;
    const container = await fixture.create(["sh", "-c", `head -c ${size} /dev/zero | tr '\\000' 'z'`]);
    await using attachment = await container.attach();
    const started = performance.now();
    await runtime.start(container.id);
    assert.equal((await runtime.exited(container.id)).code, 0);
    assert.ok(performance.now() - started > 500, "it was held up until the reader was cut off");
    await assert.rejects(
      collect(attachment),
      (error) => isError(error, "unavailable") && /too slow/.test(error.message),
    );
    assert.equal((await logLines(container.log)).join("").length, size);
    await runtime.remove(container.id);
  });

  test("attaching after a restart of the daemon works; to an ended container it does not", async () => {
    const container = await fixture.create(["sh", "-c", "read x; echo got $x"], { stdin: true });
    await fixture.runtime.start(container.id);
    await fixture.restart();
    await using attachment = await fixture.runtime.attach(container.id);
    const output = collect(attachment);
    await attachment.write(Buffer.from("it\n"));
    assert.equal((await output).stdout, "got it\n");
    await fixture.runtime.exited(container.id);
    await assert.rejects(fixture.runtime.attach(container.id), (error) => isError(error, "not_found"));
    await fixture.runtime.remove(container.id);
  });

  test("the log starts anew at its limit", async () => {
    const { runtime } = fixture;
    const args = ["sh", "-c", "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done"];
    const container = await fixture.create(args, { logSizeMax: 16_384 });
    await runtime.start(container.id);
    await runtime.exited(container.id);
    const text = await readFile(container.log);
    assert.ok(text.length < 40_000 && text.length > 0, `${text.length} bytes`);
    assert.match(text.toString(), /line 1999\n$/);
    await runtime.remove(container.id);
  });

  test("what a container writes quickly is all in the log", async () => {
    const { runtime } = fixture;
    const container = await fixture.create(["sh", "-c", "head -c 3000000 /dev/zero | tr '\\000' 'y'; echo"]);
    await runtime.start(container.id);
    await runtime.exited(container.id);
    const text = (await logLines(container.log)).join("");
    assert.equal(
      createHash("sha256").update(text).digest("hex"),
      createHash("sha256").update("y".repeat(3_000_000)).digest("hex"),
    );
    await runtime.remove(container.id);
  });
});

/** Waits until the terminal has shown a text. */
function lineReader(attachment: Attachment): (wanted: string) => Promise<void> {
  let seen = "";
  const output = attachment.output[Symbol.asyncIterator]();
  return async (wanted) => {
    while (!seen.includes(wanted)) {
      const next = await output.next();
      if (next.done === true) assert.fail(`no ${wanted} in ${JSON.stringify(seen)}`);
      seen += Buffer.from(next.value.data).toString();
    }
  };
}
