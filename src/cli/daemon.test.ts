import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

const strata = new URL("../../bin/strata", import.meta.url).pathname;
const skip = process.getuid?.() === 0 ? false : "the daemon needs root";

type Run = { readonly child: ChildProcess; readonly log: () => string; readonly ended: Promise<unknown[]> };

function daemon(...args: readonly string[]): Run {
  const child = spawn(strata, ["daemon", "--config-file", "/dev/null", ...args], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  let text = "";
  child.stderr.setEncoding("utf8").on("data", (part: string) => {
    text += part;
  });
  return { child, log: () => text, ended: once(child, "close") };
}

function status(socketPath: string, path: string): Promise<number> {
  return new Promise((resolve) => {
    const call = request({ socketPath, path, agent: false }, (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    });
    call.on("error", () => resolve(0));
    call.end();
  });
}

async function untilUp(socketPath: string, run: Run): Promise<void> {
  for (let tries = 0; (await status(socketPath, "/_ping")) !== 200; tries++) {
    assert.ok(tries < 600 && run.child.exitCode === null, `the daemon did not come up:\n${run.log()}`);
    await sleep(25);
  }
}

test("a daemon owns its data root and its socket, ends on SIGTERM, and leaves neither lock nor socket", {
  skip,
}, async () => {
  const folder = await mkdtemp(join(tmpdir(), "daemon-"));
  const socket = join(folder, "api.sock");
  const pidFile = join(folder, "pid");
  const roots = (name: string): string[] => [
    "--data-root",
    join(folder, name),
    "--exec-root",
    join(folder, `${name}-exec`),
  ];
  const first = daemon(...roots("a"), "-H", `unix://${socket}`, "-s", "vfs", "--pidfile", pidFile);
  try {
    await untilUp(socket, first);
    assert.equal(readFileSync(pidFile, "utf8"), `${first.child.pid}\n`);
    const sameRoot = daemon(...roots("a"), "-H", `unix://${join(folder, "other.sock")}`);
    assert.equal((await sameRoot.ended)[0], 1);
    assert.match(sameRoot.log(), new RegExp(`held by process ${first.child.pid}`));
    const sameSocket = daemon(...roots("b"), "-H", `unix://${socket}`, "-s", "vfs");
    assert.equal((await sameSocket.ended)[0], 1);
    assert.match(sameSocket.log(), /another process answers there/);
    assert.equal(await status(socket, "/info"), 200, "the first goes on");
    first.child.kill("SIGTERM");
    assert.deepEqual(await first.ended, [0, null]);
    for (const path of [socket, pidFile, join(folder, "a", "strata.pid")]) assert.ok(!existsSync(path), path);
  } finally {
    first.child.kill("SIGKILL");
    await rm(folder, { recursive: true, force: true });
  }
});

test("a socket that a killed daemon left is taken over", { skip }, async () => {
  const folder = await mkdtemp(join(tmpdir(), "daemon-"));
  const socket = join(folder, "api.sock");
  const args = [
    "--data-root",
    join(folder, "a"),
    "--exec-root",
    join(folder, "e"),
    "-H",
    `unix://${socket}`,
    "-s",
    "vfs",
  ];
  const runs: Run[] = [];
  try {
    for (const signal of ["SIGKILL", "SIGINT"] as const) {
      const run = daemon(...args);
      runs.push(run);
      await untilUp(socket, run);
      run.child.kill(signal);
      await run.ended;
      assert.equal(existsSync(socket), signal === "SIGKILL");
    }
  } finally {
    for (const run of runs) run.child.kill("SIGKILL");
    await rm(folder, { recursive: true, force: true });
  }
});

test("a daemon that cannot start says why in one sentence and exits 1", { skip }, async () => {
  for (const [args, sentence] of [
    [
      ["-s", "nosuch", "--data-root", join(tmpdir(), "never"), "--exec-root", join(tmpdir(), "never-exec")],
      /unknown storage driver "nosuch"/,
    ],
    [["--log-level", "loud"], /log-level/],
    [["--storage-opt", "x"], /not of the form key=value/],
  ] as const) {
    const run = daemon(...args);
    assert.equal((await run.ended)[0], 1);
    assert.match(run.log(), sentence);
    assert.doesNotMatch(run.log(), /\n\s+at /);
  }
  for (const name of ["never", "never-exec"]) await rm(join(tmpdir(), name), { recursive: true, force: true });
});
