import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { mountAll, mountTable, unmountAll } from "../host/mount.ts";
import { migrateDataRoot } from "./migrate.ts";
import { MovedRoot } from "./moved-root.fixture.ts";

const seed = Number(process.env.STRATA_SEED ?? Date.now() % 1_000_000);
const main = new URL("../cli/main.ts", import.meta.url).pathname;

type End = { readonly code: number | null; readonly signal: string | null; readonly text: string };

/** Runs `strata migrate`, which `kill` may end: it sees each line of progress. */
function strata(
  args: readonly string[],
  kill: (lines: number, end: () => void) => void = () => undefined,
): Promise<End> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [main, "migrate", ...args], { stdio: ["ignore", "pipe", "pipe"] });
    let text = "";
    child.stdout.on("data", (part: Buffer) => {
      text += part;
    });
    let told = "";
    child.stderr.on("data", (part: Buffer) => {
      told += part;
      kill(told.split("\n").length - 1, () => child.kill("SIGKILL"));
    });
    child.on("close", (code, signal) => resolve({ code, signal, text: text + told }));
  });
}

test("killed at every step it goes on where it stopped, and everything arrives", async (t) => {
  t.diagnostic(`STRATA_SEED=${seed}`);
  await using moved = await MovedRoot.make("overlay2", { seed, containers: 2 });
  const args = ["--to", "vfs", "--data-root", moved.root];
  let kills = 0;
  for (let run = 0; ; run++) {
    // The second line says that the first step is done, and that the next is under way.
    const end = await strata(args, (lines, kill) => lines >= 2 && kill());
    if (end.signal === "SIGKILL") kills++;
    else {
      assert.equal(end.code, 0, end.text);
      break;
    }
    assert.ok(run < 30, "it makes headway");
  }
  assert.ok(kills >= 3, `killed ${kills} times`);
  assert.deepEqual(await moved.problems(), []);
  assert.deepEqual(await moved.picture(), moved.truth, `STRATA_SEED=${seed}`);
  const again = await strata([...args, "--remove-old", "--json"]);
  assert.deepEqual(JSON.parse(again.text).removed, ["overlay2"]);
  assert.deepEqual(await moved.problems(), []);
  assert.deepEqual(await moved.picture(), moved.truth);
  t.diagnostic(`${kills} kills`);
});

test("without room it stops and says so, the old data stay, and it goes on when there is room", async () => {
  await using moved = await MovedRoot.make("overlay2", { seed, containers: 2 });
  const home = join(moved.root, "vfs");
  mkdirSync(home);
  mountAll([{ kind: "filesystem", type: "tmpfs", source: "tmpfs", options: ["size=150k"] }], home);
  await assert.rejects(migrateDataRoot({ dataRoot: moved.root, to: "vfs" }), {
    code: "no_space",
    message: /no space is left for vfs .*Nothing of overlay2 was changed.*Make room/,
  });
  assert.deepEqual(await moved.picture(), moved.truth, "the old data are in use, as they were");
  execFileSync("mount", ["-o", "remount,size=200m", home]);
  await migrateDataRoot({ dataRoot: moved.root, to: "vfs" });
  assert.deepEqual(await moved.picture(), moved.truth);
  unmountAll(home);
  assert.deepEqual(
    mountTable().filter(({ target }) => target.startsWith(moved.root)),
    [],
  );
});
