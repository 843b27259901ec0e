import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import {
  addBusybox,
  assertClean,
  createShell,
  type Engine,
  logOf,
  makeFolder,
  openEngine,
  requestOf,
  runShell,
} from "../../test/support/scratch-engine.ts";
import { isError } from "../base/errors.ts";

let folder: Awaited<ReturnType<typeof makeFolder>>;
let engine: Engine;

before(async () => {
  folder = await makeFolder();
  engine = await openEngine(folder.path);
  await addBusybox(engine);
});

after(async () => {
  try {
    await assertClean(engine);
  } finally {
    await engine[Symbol.asyncDispose]();
    await folder[Symbol.asyncDispose]();
  }
});

const all = { all: true, filters: new Map<string, readonly string[]>() };

test("a container runs, its exit code and its output are kept", async () => {
  const run = await runShell(engine, "echo out; echo err >&2; exit 7");
  assert.deepEqual([run.exitCode, run.stdout, run.stderr], [7, "out\n", "err\n"]);
  const { state } = engine.containers.get(run.id);
  assert.deepEqual([state.status, state.exitCode, state.pid], ["exited", 7, 0]);
  assert.match(state.finishedAt, /^20\d\d-/);
});

test("an unknown image is the 404 that makes the CLI pull", async () => {
  await assert.rejects(engine.containers.create(requestOf(["sh"], { config: { Image: "nope:1" } })), {
    code: "not_found",
    message: "No such image: nope:1",
  });
});

test("two creates with one name at once: one wins, the other leaves nothing", async () => {
  const before = engine.containers.list(all).length;
  const made = await Promise.allSettled([1, 2].map(() => createShell(engine, "true", { name: "twice" })));
  assert.deepEqual(made.map(({ status }) => status).sort(), ["fulfilled", "rejected"]);
  const failure = made.find((result) => result.status === "rejected");
  assert.ok(isError(failure?.reason, "conflict"));
  assert.match(
    failure.reason.message,
    /^Conflict\. The container name "\/twice" is already in use by container "[0-9a-f]{64}"/,
  );
  assert.equal(engine.containers.list(all).length, before + 1);
  await engine.containers.remove("twice", { force: false, volumes: false });
  await createShell(engine, "true", { name: "twice" });
});

test("events come in Docker's order with Docker's attributes", async () => {
  const seen: string[] = [];
  const end = engine.events.subscribe(({ type, action, attributes }) => {
    if (type === "container") seen.push(`${action} ${attributes.name} ${attributes.exitCode ?? ""}`.trim());
  });
  const { id } = await runShell(engine, "exit 3", { name: "eventful" });
  await engine.containers.remove(id, { force: false, volumes: false });
  end();
  assert.deepEqual(seen, ["create eventful", "start eventful", "die eventful 3", "destroy eventful"]);
});

test("what cannot be executed ends with 127 or 126, in the runtime's words", async () => {
  for (const [command, code] of [
    ["/no/such", 127],
    ["/etc/passwd", 126],
  ] as const) {
    const { id } = await engine.containers.create(requestOf([command]));
    await assert.rejects(engine.containers.start(id), (error: unknown) => {
      assert.ok(isError(error, "invalid_argument"), String(error));
      assert.match(error.message, /exec/);
      return true;
    });
    const { state } = engine.containers.get(id);
    assert.deepEqual([state.status, state.exitCode], ["created", code]);
    assert.notEqual(state.error, "");
  }
});

test("--rm: who waits for the removal is told when nothing is left", async () => {
  const id = await createShell(engine, "exit 5", { hostConfig: { AutoRemove: true } });
  const gone = engine.containers.wait(id, "removed");
  await engine.containers.start(id);
  assert.deepEqual(await gone, { exitCode: 5 });
  assert.throws(() => engine.containers.get(id), { code: "not_found", message: `No such container: ${id}` });
});

test("--rm: a start that fails removes the container too", async () => {
  const { id } = await engine.containers.create(requestOf(["/no/such"], { hostConfig: { AutoRemove: true } }));
  const gone = engine.containers.wait(id, "removed");
  await assert.rejects(engine.containers.start(id));
  assert.equal((await gone).exitCode, 127);
});

/** Starts a container and waits until it says that it is ready for signals. */
async function startReady(id: string): Promise<void> {
  await engine.containers.start(id);
  while ((await logOf(engine, id)).stdout !== "ready\n") await new Promise((resolve) => setTimeout(resolve, 20));
}

test("stop sends the stop signal, then kills; a second stop says that nothing ran", async () => {
  const polite = await createShell(engine, "trap 'exit 9' USR1; echo ready; while :; do sleep 0.05; done", {
    config: { StopSignal: "USR1" },
  });
  await startReady(polite);
  assert.equal(await engine.containers.stop(polite, { timeout: 10 }), true);
  assert.equal(engine.containers.get(polite).state.exitCode, 9);
  assert.equal(await engine.containers.stop(polite, {}), false);
  const stubborn = await createShell(engine, "trap '' TERM; echo ready; while :; do sleep 0.05; done");
  await startReady(stubborn);
  await engine.containers.stop(stubborn, { timeout: 0 });
  assert.equal(engine.containers.get(stubborn).state.exitCode, 137);
});

test("Docker's refusals on the state of a container", async () => {
  const id = await createShell(engine, "sleep 100", { name: "states" });
  const { containers } = engine;
  const conflicts: readonly (readonly [() => Promise<unknown>, string])[] = [
    [() => containers.kill("states", undefined), `cannot kill container: states: container ${id} is not running`],
    [() => containers.pause("states"), `container ${id} is not running`],
    [() => containers.unpause("states"), `Container ${id} is not paused`],
    [() => containers.top("states", []), `container ${id} is not running`],
    [() => containers.resize("states", { height: 1, width: 1 }), `container ${id} is not running`],
  ];
  for (const [verb, message] of conflicts) await assert.rejects(verb(), { code: "conflict", message });
  await containers.start(id);
  assert.equal(await containers.start(id), false);
  await assert.rejects(containers.remove(id, { force: false, volumes: false }), {
    code: "conflict",
    message:
      'cannot remove container "/states": container is running: stop the container before removing or force remove',
  });
  await containers.pause(id);
  assert.equal(containers.get(id).state.status, "paused");
  await assert.rejects(containers.pause(id), { code: "conflict", message: `Container ${id} is already paused` });
  await containers.unpause(id);
  await containers.pause(id);
  await containers.kill(id, "KILL");
  assert.equal(containers.get(id).state.exitCode, 137);
});

test("rename, and the texts around it", async () => {
  const id = await createShell(engine, "true", { name: "old-name" });
  await createShell(engine, "true", { name: "taken" });
  const { containers } = engine;
  await assert.rejects(containers.rename(id, "old-name"), {
    message: "Renaming a container with the same name as its current name",
  });
  await assert.rejects(containers.rename(id, "taken"), { code: "conflict" });
  await containers.rename(id, "new-name");
  assert.equal(containers.get("new-name").id, id);
  assert.throws(() => containers.get("old-name"), { code: "not_found" });
  await createShell(engine, "true", { name: "old-name" });
});

test("a policy starts a container again until a user stops it", async () => {
  const { containers } = engine;
  const id = await createShell(engine, "exit 4", {
    hostConfig: { RestartPolicy: { Name: "on-failure", MaximumRetryCount: 2 } },
  });
  await containers.start(id);
  while (containers.get(id).state.status !== "exited") await new Promise((resolve) => setTimeout(resolve, 50));
  assert.deepEqual([containers.get(id).restartCount, containers.get(id).state.exitCode], [2, 4]);
  const again = await createShell(engine, "exit 0", {
    hostConfig: { RestartPolicy: { Name: "always", MaximumRetryCount: 0 } },
  });
  await containers.start(again);
  while (containers.get(again).restartCount < 2) await new Promise((resolve) => setTimeout(resolve, 50));
  await containers.stop(again, {});
  assert.equal(containers.get(again).state.status, "exited");
});

test("prune takes what does not run", async () => {
  const running = await createShell(engine, "sleep 100", { config: { Labels: { prune: "yes" } } });
  const idle = await createShell(engine, "true", { config: { Labels: { prune: "yes" } } });
  await engine.containers.start(running);
  const pruned = await engine.containers.prune(new Map([["label", ["prune=yes"]]]));
  assert.deepEqual(pruned, { removed: [idle], reclaimed: 0 });
});
