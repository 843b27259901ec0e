import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { MovedRoot } from "../migrate/moved-root.fixture.ts";
import { barLine } from "./progress-bar.ts";

const main = new URL("main.ts", import.meta.url).pathname;
const layer = { what: "layer", name: `sha256:${"ab".repeat(32)}`, total: 400, totalBytes: 38_020_000 } as const;

test("a line fits into any terminal, with a bar where there is room for one", () => {
  const half = { ...layer, done: 199, bytes: 19_010_000 };
  assert.equal(barLine(half, 80), "[============            ] layer 200/400 19.01MB of 38.02MB abababababab");
  assert.equal(barLine(half, 60), "[============            ] layer 200/400 19.01MB of 38.02MB");
  assert.equal(barLine(half, 50), "[=======       ] layer 200/400 19.01MB of 38.02MB");
  assert.equal(barLine(half, 36), "layer 200/400 19.01MB of 38.02MB");
  assert.equal(barLine(half, 10), "layer 200");
  const container = { what: "container", name: "c".repeat(64), done: 1, total: 2, bytes: 0, totalBytes: 0 } as const;
  assert.equal(barLine(container, 80), "[============            ] container 2/2 cccccccccccc");
});

test("more bytes than were expected, and none at all, are no error", () => {
  assert.match(barLine({ ...layer, done: 400, bytes: 99_000_000 }, 80), /^\[={24}\] layer 400\/400 99MB of 38.02MB/);
  assert.match(barLine({ ...layer, done: 0, bytes: 0, totalBytes: 0 }, 80), /^\[ {24}\] layer 1\/400 0B of 0B/);
});

test("on a terminal the bar is drawn over itself and gone at the end", async () => {
  await using moved = await MovedRoot.make("overlay2", { seed: 1, containers: 2 });
  const command = `stty cols 50; exec ${process.execPath} ${main} migrate --to vfs --data-root ${moved.root}`;
  const shown = execFileSync("script", ["-qec", command, "/dev/null"], { encoding: "utf8", env: noColour() });
  const [first = "", ...drawn] = shown.split("\r\u001b[K");
  const after = drawn.pop() ?? "";
  assert.equal(first, "", "nothing stands before the bar");
  assert.ok(drawn.length >= 1, shown);
  for (const line of drawn) assert.match(line, /^(\[=* *\] )?(layer|container) \d+\/\d+[^\r\n]*$/);
  for (const line of drawn) assert.ok(line.length < 50, line);
  assert.match(
    after,
    /^moved \d+ layers \(.*\) and 2 containers from overlay2 to vfs; 0 layers were there already\r\n/,
  );
});

/** `script` runs the command in the shell of the environment. */
const noColour = (): NodeJS.ProcessEnv => ({ ...process.env, SHELL: "/bin/sh", TERM: "xterm" });
