import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { leftBehind } from "./left-behind.ts";
import { makeLoopFilesystem } from "./loop.ts";

const isRoot = process.getuid?.() === 0;

test("a mount, a loop device and a process are seen, each until it is gone", {
  skip: isRoot ? false : "needs root",
}, async () => {
  const folder = mkdtempSync(join(tmpdir(), "left-"));
  const [inside, beside] = [join(folder, "in"), join(folder, "in-not")];
  for (const path of [inside, beside]) mkdirSync(path);
  const loop = await makeLoopFilesystem({ type: "ext4", size: 16 << 20, directory: inside });
  const program = spawn("sh", ["-c", "sleep 100; :", join(inside, "file")], { stdio: "ignore" });
  await once(program, "spawn");
  const kinds = (left: readonly string[]): string[] => left.map((line) => line.split(" ")[0] ?? "");
  assert.deepEqual(kinds(await leftBehind(inside, 0)), ["mount", "loop", "process"]);
  assert.deepEqual(await leftBehind(beside, 0), [], "a name that only begins the same is another's");
  // What goes meanwhile is waited for.
  const left = leftBehind(inside);
  program.kill("SIGKILL");
  await loop[Symbol.asyncDispose]();
  assert.deepEqual(await left, []);
  assert.deepEqual(await leftBehind(folder, 0), []);
  rmSync(folder, { recursive: true });
});
