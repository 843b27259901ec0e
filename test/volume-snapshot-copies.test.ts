/**
 * Snapshots that the driver has to copy, on ext4, against a real daemon: containers go on while the greater part is copied, whoever
 * asked may go away, and kill -9 in the middle leaves nothing.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { openClient } from "../src/client/engine-client.ts";
import { makeLoopFilesystem } from "../src/host/loop.ts";
import { pictureOf } from "../src/host/tree-picture.ts";
import { busyboxTar, type Daemon, scratchFolder, startStrata, unmountBelow } from "./support/engine.ts";
import { strataProgram, strataVolume } from "./support/strata-volume.ts";
import { until } from "./support/until.ts";

const skip = process.getuid?.() === 0 ? false : "the daemon needs root";
/** How often something is tried whose moment may be missed. */
const tries = 30;

/** Two files that one process changes together: at one moment they differ by one at most. */
const writer =
  "n=0; while true; do n=$((n+1)); echo $n > /d/.new; mv /d/.new /d/first; echo $n > /d/.new; mv /d/.new /d/second; done";
const numberIn = (path: string, name: string): number => Number(readFileSync(join(path, name), "utf8"));

type Message = {
  readonly status?: string;
  readonly progressDetail?: { readonly current: number; readonly total: number };
};

describe("snapshots that are copied", { skip }, () => {
  const scratch = scratchFolder();
  const stack = new AsyncDisposableStack();
  const root = join(scratch.path, "strata");
  let dataRoot = "";
  let daemon: Daemon;

  const { ok } = strataVolume(() => daemon);
  const dataOf = (name: string): string => join(dataRoot, "volumes", name, "_data");
  const stateOf = (name: string): Promise<string> => daemon.ok(["inspect", "-f", "{{.State.Status}}", name]);
  const snapshots = async (): Promise<readonly string[]> =>
    JSON.parse(await ok("snapshot", "ls", "v1", "--json")).map(({ Name }: { readonly Name: string }) => Name);
  const isOneMoment = (snapshot: string): boolean => {
    const kept = join(dataRoot, "volumes/v1/.snapshots", snapshot, "data");
    const [first, second] = [numberIn(kept, "first"), numberIn(kept, "second")];
    return first === second || first === second + 1;
  };
  /** What is half-made, of snapshots and of volumes. */
  const halves = (): readonly string[] =>
    [join(dataRoot, "volumes"), join(dataRoot, "volumes/v1/.snapshots")]
      .filter((path) => existsSync(path))
      .flatMap((path) => readdirSync(path))
      .filter((name) => name.startsWith(".") && name !== ".snapshots");

  before(async () => {
    const { path } = stack.use(await makeLoopFilesystem({ type: "ext4", size: 1 << 30, directory: scratch.path }));
    dataRoot = join(path, "data");
    daemon = await startStrata({ root, dataRoot });
    await daemon.ok(["import", await busyboxTar(join(scratch.path, "bb.tar")), "bb"]);
    const fill = "for i in $(seq 12); do dd if=/dev/urandom of=/d/big$i bs=1M count=10 2>/dev/null; done";
    await daemon.ok(["run", "--rm", "--network", "none", "-v", "v1:/d", "bb", "sh", "-c", fill]);
    await daemon.ok(["run", "-d", "--network", "none", "--name", "writer", "-v", "v1:/d", "bb", "sh", "-c", writer]);
    await until("the writer writes", () => existsSync(join(dataOf("v1"), "second")));
  });

  after(async () => {
    await daemon.ok(["rm", "-f", "writer"]);
    await daemon.stop();
    await unmountBelow(root);
    await unmountBelow(dataRoot);
    await stack.disposeAsync();
    scratch[Symbol.dispose]();
  });

  /** Milliseconds of the daemon's clock at which a container was frozen and went on. */
  async function pauses(since: number): Promise<readonly (readonly [what: string, at: number])[]> {
    const filters = ["--filter", "container=writer", "--filter", "event=pause", "--filter", "event=unpause"];
    const range = ["--since", `${since / 1000}`, "--until", `${Date.now() / 1000 + 0.001}`];
    const lines = await daemon.ok(["events", ...range, ...filters, "--format", "{{.Action}} {{.TimeNano}}"]);
    const all = lines.split("\n").filter((line) => line !== "");
    return all.map((line) => {
      const [what = "", nano = ""] = line.split(" ");
      return [what, Number(BigInt(nano) / 1000n) / 1000] as const;
    });
  }

  test("the container goes on while its volume is copied, and stands still once, for the end of it", async () => {
    const client = openClient(daemon.host);
    let seenBefore = false;
    for (let round = 0; round < tries && !seenBefore; round++) {
      const since = Date.now() - 1;
      const said: { readonly at: number; readonly message: Message }[] = [];
      for await (const message of client.messages(`/strata/volumes/v1/snapshots?name=s${round}`))
        said.push({ at: Date.now(), message: message as Message });
      const events = await pauses(since);
      assert.deepEqual(
        events.map(([what]) => what),
        ["pause", "unpause"],
      );
      // A word of the copy that is here before the pause was said before it.
      seenBefore = (said[0]?.at ?? Number.POSITIVE_INFINITY) < (events[0]?.[1] ?? 0);
      const told = said.flatMap(({ message: { progressDetail } }) =>
        progressDetail === undefined ? [] : [progressDetail],
      );
      assert.ok(told.length > 1 && told.every(({ current }, at) => current >= (told[at - 1]?.current ?? 0)));
      assert.equal(told.at(-1)?.current, told.at(-1)?.total);
      assert.ok((told[0]?.total ?? 0) > 120_000_000);
      assert.ok(isOneMoment(`s${round}`), "it is of one moment");
      await ok("snapshot", "rm", "v1", `s${round}`);
    }
    assert.ok(seenBefore, "the container was frozen from the beginning, every time");
    assert.equal(await stateOf("writer"), "running");
    const now = numberIn(dataOf("v1"), "first");
    await until("it goes on", () => numberIn(dataOf("v1"), "first") > now);
  });

  test("with --no-pause nobody stands still, and it is of one moment where that is told", async () => {
    const since = Date.now() - 1;
    const { Report } = JSON.parse(await ok("snapshot", "create", "v1", "loose", "--no-pause", "--json"));
    assert.deepEqual([Report.Cost, Report.ByStore], ["copy", false]);
    assert.ok(Report.Consistent === false || isOneMoment("loose"));
    assert.deepEqual(await pauses(since), []);
    await ok("snapshot", "rm", "v1", "loose");
  });

  /** Ends a command when its copy has begun; false when it was too late for that. */
  async function cutShort(args: readonly string[], cut: (child: ChildProcess) => Promise<void>): Promise<boolean> {
    const child = spawn(strataProgram, ["volume", ...args, "-H", daemon.host], { stdio: "ignore" });
    const ended = once(child, "exit");
    while (halves().length === 0 && child.exitCode === null) await sleep(1);
    const inTime = halves().length > 0;
    await cut(child);
    await ended;
    return inTime;
  }

  const interrupt = async (child: ChildProcess): Promise<void> => void child.kill("SIGINT");

  test("a snapshot of which nobody wants to know any more is given up at once, and the next one is whole", async () => {
    let cut = false;
    for (let round = 0; round < tries && !cut; round++) {
      const inTime = await cutShort(["snapshot", "create", "v1", "cut"], interrupt);
      await until("nothing half-made is left", () => halves().length === 0);
      const there = (await snapshots()).includes("cut");
      if (there) await ok("snapshot", "rm", "v1", "cut");
      cut = inTime && !there;
    }
    assert.ok(cut, "it was never in time");
    assert.equal(await stateOf("writer"), "running");
    await ok("snapshot", "create", "v1", "whole");
    assert.deepEqual(await snapshots(), ["whole"]);
  });

  test("an export of it tells of the copy that it has to wait for", async () => {
    const told: Message[] = [];
    const path = "/strata/volumes/v1/export?snapshot=whole&progress=1";
    for await (const _ of openClient(daemon.host).bytes(path, (message) => told.push(message as Message))) break;
    const amounts = told.map(({ progressDetail }) => progressDetail?.current ?? Number.NaN);
    assert.ok(amounts.length > 1 && amounts.every((at, index) => at >= (amounts[index - 1] ?? 0)));
    assert.deepEqual([told.at(-1)?.status, amounts.at(-1)], ["copying", told.at(-1)?.progressDetail?.total]);
    await until("what was made for it is gone", () => readdirSync(join(dataRoot, "volumes")).length === 1);
  });

  test("so is a clone and an export of one, and a restore, which leaves the volume as it was", async () => {
    await daemon.ok(["stop", "-t", "0", "writer"]);
    const tree = pictureOf(dataOf("v1"));
    const file = join(scratch.path, "cut.tar");
    for (const args of [
      ["clone", "v1@whole", "v2"],
      ["export", "v1@whole", "-o", file],
      ["snapshot", "restore", "v1", "whole"],
    ]) {
      await cutShort(args, interrupt);
      await until(`nothing half-made is left of ${args[0]}`, () => halves().length === 0);
      // What was done all the same is whole.
      const names = (await daemon.ok(["volume", "ls", "-q"])).split("\n");
      assert.deepEqual(
        names.filter((name) => name !== "v1" && name !== "v2"),
        [],
      );
      if (names.includes("v2")) await daemon.ok(["volume", "rm", "v2"]);
      assert.deepEqual(await snapshots(), ["whole"]);
      const now = pictureOf(dataOf("v1"));
      if (args[1] !== "restore") assert.deepEqual(now, tree);
    }
    await ok("snapshot", "restore", "v1", "whole");
    assert.deepEqual(pictureOf(dataOf("v1")), pictureOf(join(dataRoot, "volumes/v1/.snapshots/whole/data")));
    await daemon.ok(["start", "writer"]);
  });

  test("kill -9 while it is copied: nothing half-made is there after the restart, and the container runs", async () => {
    let cut = false;
    for (let round = 0; round < tries && !cut; round++) {
      const inTime = await cutShort(["snapshot", "create", "v1", "killed"], async (child) => {
        await daemon.kill();
        child.kill("SIGKILL");
      });
      daemon = await startStrata({ root, dataRoot });
      assert.deepEqual(halves(), []);
      await until("it runs", async () => (await stateOf("writer")) === "running");
      const there = (await snapshots()).includes("killed");
      if (there) await ok("snapshot", "rm", "v1", "killed");
      cut = inTime && !there;
    }
    assert.ok(cut, "it was never in time");
    const now = numberIn(dataOf("v1"), "first");
    await until("it goes on", () => numberIn(dataOf("v1"), "first") > now);
    await ok("snapshot", "create", "v1", "after");
    assert.deepEqual(await snapshots(), ["whole", "after"]);
    await daemon.ok(["rm", "-f", "writer"]);
    await daemon.ok(["volume", "rm", "-f", "v1"]);
    assert.deepEqual(
      readdirSync(join(dataRoot, "volumes")).filter((name) => name !== "metadata.db"),
      [],
    );
    await daemon.ok(["run", "-d", "--network", "none", "--name", "writer", "bb", "sleep", "1000"]);
  });
});
