import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import {
  addBusybox,
  assertClean,
  createShell,
  type Engine,
  logOf,
  makeFolder,
  openEngine,
} from "../../test/support/scratch-engine.ts";
import { until } from "../../test/support/until.ts";

/** Runs each life of an engine over one folder, one after another. */
async function lives(...steps: readonly ((engine: Engine) => Promise<void>)[]): Promise<void> {
  await using folder = await makeFolder();
  for (const [index, step] of steps.entries()) {
    await using engine = await openEngine(folder.path);
    if (index === 0) await addBusybox(engine);
    await step(engine);
    if (index === steps.length - 1) await assertClean(engine);
  }
}

const quietly = { env: [], user: undefined, workingDir: undefined, privileged: false, detachKeys: undefined };
const alone = { ...quietly, tty: false, attachStdin: false, attachStdout: false, attachStderr: false };

test("a container outlives the engine, is taken up again, and its end is seen", async () => {
  let id = "";
  let pid = 0;
  await lives(
    async ({ containers, ...engine }) => {
      id = await createShell({ containers, ...engine }, "echo one; while [ ! -e /go ]; do sleep 0.05; done; exit 6");
      await containers.start(id);
      pid = containers.get(id).state.pid;
    },
    async (engine) => {
      const { containers } = engine;
      assert.deepEqual([containers.get(id).state.status, containers.get(id).state.pid], ["running", pid]);
      assert.match(containers.get(id).state.startedAt, /^20\d\d-/);
      const exit = containers.wait(id, "not-running");
      const exec = await containers.createExec(id, { ...alone, command: ["touch", "/go"] });
      await containers.startExec(exec, { attached: false, tty: false });
      assert.deepEqual(await exit, { exitCode: 6 });
      assert.equal((await logOf(engine, id)).stdout, "one\n");
    },
    async ({ containers }) =>
      assert.deepEqual([containers.get(id).state.status, containers.get(id).state.exitCode], ["exited", 6]),
  );
});

test("an exec outlives the engine: it is known again, and its exit code is told", async () => {
  let id = "";
  let [slow, quick] = ["", ""];
  const start = async ({ containers }: Engine, script: string): Promise<string> => {
    const exec = await containers.createExec(id, { ...alone, command: ["sh", "-c", script] });
    await containers.startExec(exec, { attached: false, tty: false });
    return exec;
  };
  await lives(
    async (engine) => {
      id = await createShell(engine, "sleep 100");
      await engine.containers.start(id);
      slow = await start(engine, "until test -e /go; do sleep 0.1; done; exit 9");
      quick = await start(engine, "until test -e /now; do sleep 0.1; done; exit 3");
      await writeFile(join(engine.layers.describeWritable(id).MergedDir ?? "", "now"), "");
    },
    async ({ containers, events, layers }) => {
      const { running, command, pid, containerId } = containers.getExec(slow);
      assert.deepEqual([running, command.at(-1)?.endsWith("exit 9"), containerId], [true, true, id]);
      await until("it runs its program", async () => /exit 9/.test(await readFile(`/proc/${pid}/cmdline`, "utf8")));
      await assert.rejects(containers.startExec(slow, { attached: false, tty: false }), { code: "conflict" });
      const died: string[] = [];
      const forget = events.subscribe(({ action, attributes }) => {
        if (action === "exec_die") died.push(`${attributes.execID} ${attributes.exitCode}`);
      });
      await until("the quick one has ended", () => containers.getExec(quick).exitCode === 3);
      await writeFile(join(layers.describeWritable(id).MergedDir ?? "", "go"), "");
      await until("the slow one has ended", () => containers.getExec(slow).exitCode === 9);
      assert.equal(died.at(-1), `${slow} 9`);
      forget();
    },
  );
});

test("what an engine froze for itself when it was killed goes on; what a person paused stays so", async () => {
  let held = "";
  let paused = "";
  await lives(
    async (engine) => {
      [held, paused] = [await createShell(engine, "sleep 100"), await createShell(engine, "sleep 100")];
      for (const id of [held, paused]) await engine.containers.start(id);
      // As in the middle of a commit.
      await engine.runtime.pause(held);
      await engine.containers.pause(paused);
    },
    async ({ containers, runtime }) => {
      assert.deepEqual([containers.get(held).state.status, await runtime.frozen(held)], ["running", false]);
      assert.deepEqual([containers.get(paused).state.status, await runtime.frozen(paused)], ["paused", true]);
      await containers.kill(held, undefined);
      await containers.unpause(paused);
      assert.equal(await runtime.frozen(paused), false);
    },
  );
});

test("what ended while no engine was there has its exit code, and --rm goes", async () => {
  let kept = "";
  let gone = "";
  await lives(
    async (engine) => {
      kept = await createShell(engine, "sleep 0.3; exit 8");
      gone = await createShell(engine, "sleep 0.3", { hostConfig: { AutoRemove: true } });
      await engine.containers.start(kept);
      await engine.containers.start(gone);
    },
    async ({ containers }) => {
      // The engine was closed at once; give the processes time to end, then look.
      for (let tries = 0; containers.get(kept).state.status === "running" && tries < 100; tries++)
        await new Promise((resolve) => setTimeout(resolve, 50));
      assert.equal(containers.get(kept).state.exitCode, 8);
      for (let tries = 0; containers.list({ all: true, filters: new Map() }).length > 1 && tries < 100; tries++)
        await new Promise((resolve) => setTimeout(resolve, 50));
      assert.throws(() => containers.get(gone), { code: "not_found" });
    },
  );
});

test("after a boot what ran has ended honestly, and policies start what should run", async () => {
  await using folder = await makeFolder();
  let plain = "";
  let always = "";
  let stopped = "";
  {
    await using engine = await openEngine(folder.path, "boot-1");
    await addBusybox(engine);
    const policy = (Name: "always" | "unless-stopped") => ({
      hostConfig: { RestartPolicy: { Name, MaximumRetryCount: 0 } },
    });
    plain = await createShell(engine, "sleep 100");
    always = await createShell(engine, "sleep 100", policy("always"));
    stopped = await createShell(engine, "sleep 100", policy("unless-stopped"));
    for (const id of [plain, always, stopped]) await engine.containers.start(id);
    await engine.containers.stop(stopped, { timeout: 0 });
    // A power cut ends the processes, and nobody sees it: the engine is closed first.
    await engine.containers[Symbol.asyncDispose]();
    for (const id of [plain, always]) {
      await engine.runtime.kill(id, 9);
      await engine.runtime.exited(id);
      await engine.runtime.remove(id);
      await engine.layers.unmountWritable(id, "run");
    }
  }
  await using engine = await openEngine(folder.path, "boot-2");
  const { containers } = engine;
  assert.deepEqual([containers.get(plain).state.status, containers.get(plain).state.exitCode], ["exited", 255]);
  for (let tries = 0; containers.get(always).state.status !== "running" && tries < 100; tries++)
    await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(containers.get(always).state.status, "running");
  assert.equal(containers.get(stopped).state.status, "exited");
  await assertClean(engine);
});
