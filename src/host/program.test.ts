import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { EngineError, isError } from "../base/errors.ts";
import { runProgram } from "./program.ts";

const deadline = 10_000;
const shell = (script: string): readonly [string, readonly string[]] => ["sh", ["-c", script]];

/** A dead process that nobody has waited for is dead. */
function lives(pid: number): boolean {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}

test("a program gives its code and both outputs, and gets its input", async () => {
  const result = await runProgram(...shell("cat; echo oops >&2; exit 7"), { deadline, input: "in" });
  assert.deepEqual(result, { code: 7, stdout: "in", stderr: "oops\n" });
  assert.equal((await runProgram(...shell("kill -9 $$"), { deadline })).code, 137);
});

test("arguments reach the program as they are, no shell reads them", async () => {
  const words = ["$(id)", "a b", "; echo no", "*"];
  const { stdout } = await runProgram("printf", ["%s\n", ...words], { deadline });
  assert.equal(stdout, `${words.join("\n")}\n`);
});

test("the environment is the one that was given", async () => {
  const { stdout } = await runProgram("/usr/bin/env", [], { deadline, env: { ONLY: "this" } });
  assert.equal(stdout, "ONLY=this\n");
});

test("a program that reads none of its input does no harm", async () => {
  const { code } = await runProgram("true", [], { deadline, input: Buffer.alloc(10_000_000) });
  assert.equal(code, 0);
});

test("a missing program is unsupported and says to install it", async () => {
  const missing = runProgram("no-such-program-here", [], { deadline });
  await assert.rejects(
    missing,
    (error) => isError(error, "unsupported") && /no-such-program-here: install it/.test(error.message),
  );
});

test("at the deadline the whole group ends, and the error names the program", async () => {
  const before = Date.now();
  const late = runProgram(...shell("sleep 60 & echo $! >&2; wait"), { deadline: 200 });
  await assert.rejects(
    late,
    (error) => isError(error, "deadline_exceeded") && error.message.startsWith("sh did not end"),
  );
  assert.ok(Date.now() - before < 5000);
});

test("a program that ignores SIGTERM is killed, with its children", async () => {
  const late = runProgram(...shell("trap '' TERM; sleep 61 & echo $!; while :; do sleep 1; done"), { deadline: 100 });
  const before = Date.now();
  await assert.rejects(late, (error) => isError(error, "deadline_exceeded"));
  assert.ok(Date.now() - before < 4000);
});

test("something that left the group and keeps the pipes does not hold the caller", async () => {
  const late = runProgram(...shell("setsid sleep 8 & wait"), { deadline: 100 });
  await assert.rejects(late, (error) => isError(error, "deadline_exceeded"));
});

test("an abort ends the program and is the error", async () => {
  const abort = new AbortController();
  const reason = new EngineError("canceled", "the client left");
  const running = runProgram(...shell("echo $$; exec sleep 62"), { deadline, signal: abort.signal });
  await sleep(100);
  abort.abort(reason);
  await assert.rejects(running, (error) => error === reason);
  await assert.rejects(runProgram("true", [], { deadline, signal: abort.signal }), (error) => error === reason);
});

test("output is bounded: who writes for ever is ended", async () => {
  const endless = runProgram("yes", [], { deadline, maxOutput: 100_000 });
  await assert.rejects(endless, /yes wrote more than 100000 bytes to stdout/);
});

test("no process is left of a program that was ended, also none that ignores SIGTERM", async () => {
  const directory = mkdtempSync(join(tmpdir(), "strata-program-"));
  try {
    const pids = join(directory, "pids");
    const background = `(trap '' TERM; exec sleep 63) >/dev/null 2>&1 & echo $! $$ > ${pids}; exec sleep 64`;
    await assert.rejects(runProgram(...shell(background), { deadline: 500 }));
    await sleep(50);
    const numbers = readFileSync(pids, "utf8").trim().split(" ").map(Number);
    assert.deepEqual(numbers.filter(lives), []);
    assert.equal(numbers.length, 2);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
