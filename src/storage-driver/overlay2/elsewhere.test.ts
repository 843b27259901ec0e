/** The conformance suite of overlay2 where the kernel gives less: in a user namespace, and by mount(2) alone. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { conformanceCases } from "../conformance.ts";

const file = (name: string): string => new URL(name, import.meta.url).pathname;
const suite = [process.execPath, "--test-reporter=tap", file("./elsewhere.fixture.ts")];

/** Runs the suite by `command` and checks that all of it ran and passed. */
async function runSuite(place: string, command: readonly string[]): Promise<void> {
  const env: NodeJS.ProcessEnv = { ...process.env, PLACE: place };
  delete env.NODE_TEST_CONTEXT;
  const [program = "", ...args] = command;
  const child = spawn(program, args, { env, stdio: ["ignore", "pipe", "pipe"] });
  let text = "";
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (part: string) => {
      text += part;
    });
  const [code] = await once(child, "close");
  const count = (word: string): number => Number(new RegExp(`^# ${word} (\\d+)$`, "m").exec(text)?.[1] ?? -1);
  assert.equal(
    code,
    0,
    text
      .split("\n")
      .filter((line) => !/^\s*(ok|duration_ms|---|\.\.\.|type:)/.test(line))
      .join("\n"),
  );
  const cases = conformanceCases.length + 2;
  assert.deepEqual([count("pass"), count("fail"), count("skipped")], [cases, 0, 0]);
}

/** A process that holds a new user and mount namespace, in which the ids up to 65535 are those of the host. */
async function holdNamespaces(): Promise<ChildProcess> {
  const holder = spawn("unshare", ["--user", "--mount", "--propagation", "private", "sleep", "3600"], {
    stdio: "ignore",
  });
  const own = readFileSync("/proc/self/uid_map", "utf8");
  const map = (which: "uid" | "gid"): string => `/proc/${holder.pid}/${which}_map`;
  for (let tries = 0; holder.pid === undefined || !/sleep/.test(commandOf(holder.pid)); tries++) {
    assert.ok(tries < 2000 && holder.exitCode === null, "no user namespace was made");
    await sleep(10);
  }
  assert.notEqual(readFileSync(map("uid"), "utf8"), own);
  for (const which of ["uid", "gid"] as const) writeFileSync(map(which), "0 0 65536\n");
  return holder;
}

const commandOf = (pid: number): string => readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0")[0] ?? "";

describe("overlay2 elsewhere", () => {
  test("conformance: overlay2 in a user namespace", async () => {
    const holder = await holdNamespaces();
    try {
      const enter = ["nsenter", "--user", "--mount", "--target", String(holder.pid), "--setuid", "0", "--setgid", "0"];
      await runSuite("in a user namespace", [...enter, ...suite]);
    } finally {
      holder.kill("SIGKILL");
      await once(holder, "exit");
    }
  });

  test("conformance: overlay2 by mount(2) alone", () =>
    runSuite("by mount(2) alone", ["python3", file("./old-kernel.fixture.py"), ...suite]));
});
