/**
 * How long each step of a container takes at the runtime, without storage or API: run by hand as root,
 * `node bench/runtime-steps.ts [rounds]`. Prints medians; only ratios within one run mean anything.
 */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { runProgram } from "../src/host/program.ts";
import { buildProcess } from "../src/runtime/process-spec.ts";
import { collect, RuntimeFixture } from "../src/runtime/runtime.fixture.ts";
import { buildSpec } from "../src/runtime/spec.ts";

const rounds = Number(process.argv[2] ?? 20);
const times = new Map<string, number[]>();

async function timed<T>(step: string, action: () => Promise<T>): Promise<T> {
  const start = performance.now();
  const result = await action();
  times.set(step, [...(times.get(step) ?? []), performance.now() - start]);
  return result;
}

await using fixture = await RuntimeFixture.open();
const { runtime } = fixture;

for (let round = 0; round < rounds; round++) {
  const id = `bench-${process.pid}-${round}`;
  await timed("all until exit", async () => {
    const spec = await timed("spec", () => buildSpec(fixture.input(id, ["true"])));
    const logPath = `${fixture.directory}/${id}.log`;
    const request = { id, spec, tty: false, stdin: false, keepStdin: false, logPath, logSizeMax: undefined };
    const container = await timed("create", () => runtime.create(request));
    await using attachment = await timed("attach", container.attach);
    const output = collect(attachment);
    const exited = runtime.exited(id);
    await timed("start", () => runtime.start(id));
    await timed("exit", () => Promise.all([exited, output]));
  });
  await timed("remove", () => runtime.remove(id));
  await timed("bare runc run", () => bareRun(id));
}

const container = await fixture.create(["sleep", "1000"]);
await runtime.start(container.id);
for (let round = 0; round < rounds; round++) {
  const spec = await buildProcess(fixture.input(container.id, ["true"]));
  const request = { id: container.id, execId: `x${round}`, process: spec, tty: false, stdin: false };
  const session = await timed("exec, attached", () => runtime.exec(request, true));
  await timed("exec's exit", () => session.exited);
  await session.attachment?.[Symbol.asyncDispose]();
}

/** The floor: the same spec by the OCI runtime alone, which creates, starts, waits and deletes. */
async function bareRun(id: string): Promise<void> {
  const bundle = join(fixture.directory, "bare");
  await mkdir(bundle, { recursive: true });
  await writeFile(join(bundle, "config.json"), JSON.stringify(await buildSpec(fixture.input(id, ["true"]))));
  const args = ["--root", join(fixture.directory, "bare-state"), "run", "--bundle", bundle, id];
  const { code, stderr } = await runProgram("runc", args, { deadline: 10_000 });
  if (code !== 0) throw new Error(stderr);
}

for (const [step, values] of times) {
  const sorted = values.sort((a, b) => a - b);
  console.log(`${step.padEnd(16)} ${(sorted[Math.floor(sorted.length / 2)] ?? 0).toFixed(1).padStart(7)} ms`);
}
