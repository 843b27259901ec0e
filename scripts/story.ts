/**
 * `npm start`: starts the engine, makes sure that there is a busybox image, walks through the story of the seeds on the
 * live engine, says how to point the docker CLI at it, and serves until Ctrl-C. Arguments go to `strata daemon`.
 */
import { ensureBusybox } from "./story/busybox.ts";
import { removeStory, tell } from "./story/chapters.ts";
import { startEngine } from "./story/engine-process.ts";
import { say, title } from "./story/print.ts";

if (process.getuid?.() !== 0) {
  process.stderr.write("strata: the engine mounts filesystems and runs containers, so it needs root: sudo npm start\n");
  process.exit(1);
}

const engine = await startEngine(process.argv.slice(2)).catch((error: unknown) => {
  process.stderr.write(`strata: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
});

let stopping: Promise<void> | undefined;

async function stop(): Promise<void> {
  say("\nStopping: the story's containers first, then the engine. Images and volumes stay.");
  const names = await removeStory(engine.api).catch(() => []);
  if (names.length > 0) say(`  removed ${names.join(", ")}`);
  const left = await engine.api.call("/containers/json").catch(() => []);
  const running = Array.isArray(left) ? left.length : 0;
  if (running > 0) say(`  ${running} other container(s) go on running; the next start finds them again`);
  await engine.stop();
  say(`  engine stopped (pid ${engine.pid})`);
}

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => {
    if (stopping !== undefined) return say("  still stopping; this takes a moment");
    stopping = stop().then(() => process.exit(0));
  });
}

try {
  if (await ensureBusybox(engine.api)) say("Made busybox:latest from this machine's busybox.");
  await tell(engine.api);
  title("It is yours");
  say("  In another terminal:");
  say(`    export DOCKER_HOST=unix://${engine.api.socketPath} DOCKER_BUILDKIT=0`);
  say("    docker ps -s");
  say("  Ctrl-C stops the engine.");
} catch (error) {
  if (stopping === undefined) {
    process.stderr.write(`strata: the story broke off: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
    stopping = stop().then(() => process.exit(1));
  }
}
const code = await engine.ended;
if (stopping === undefined) {
  process.stderr.write(`strata: the engine ended by itself (exit ${code})\n`);
  process.exit(1);
}
