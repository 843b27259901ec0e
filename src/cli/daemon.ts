/**
 * `strata daemon`: opens the engine, serves the Docker API, and ends on SIGTERM or SIGINT. Containers go on running when
 * it ends, and the next daemon on the same roots finds them.
 */
import { unlink, writeFile } from "node:fs/promises";
import { flushCompileCache } from "node:module";
import type { Logger } from "pino";
import { EngineError } from "../base/errors.ts";
import { defaultExecRoot, type Engine, openEngine } from "../engine.ts";
import { giveBackMemory } from "../host/idle-memory.ts";
import { parseAddress } from "../serve/docker-api/listen.ts";
import { createDockerApi, type DockerApi } from "../serve/docker-api/server.ts";
import { keyValues, readSettings, type Settings } from "./daemon-config.ts";
import { createLog } from "./log.ts";
import { stopSignal } from "./stop-signal.ts";
import { milliseconds } from "./volume-deadline.ts";

/** Milliseconds for the parts to close before the process ends anyway. */
const closeDeadline = 30_000;

/** Milliseconds after which a start has left nothing to do. */
const settled = 3000;

/** Runs until told to stop. Throws before it serves when it cannot start. */
export async function runDaemon(flags: Readonly<Record<string, unknown>>): Promise<void> {
  const settings = await readSettings(flags);
  if (process.getuid?.() !== 0)
    throw new EngineError("forbidden", "the engine mounts filesystems and runs containers: run it as root");
  const log = createLog(settings.debug ? "debug" : (settings["log-level"] ?? "info"), process.stderr.isTTY === true);
  process.on("uncaughtException", (error) => log.error({ err: error }, "a failure that nobody handled"));
  process.on("unhandledRejection", (error) => log.error({ err: error }, "a failure that nobody waited for"));
  const stop = stopSignal(log);
  await using stack = new AsyncDisposableStack();
  const engine = stack.use(await openEngine(engineOptions(settings, log)));
  const api = stack.use(await serve(engine, settings, log));
  // Who is answered may look for it.
  if (settings.pidfile !== undefined) await holdPidFile(settings.pidfile, stack);
  await listen(api, settings, log);
  log.info({ dataRoot: engine.dataRoot, driver: engine.layers.driverName }, "the engine is up");
  flushCompileCache();
  // what only the start needed
  setTimeout(giveBackMemory, settled).unref();
  await stop;
  setTimeout(() => process.exit(1), closeDeadline).unref();
  await stack.disposeAsync();
  log.info("the engine is down; containers go on running");
  process.exit(0);
}

function engineOptions(settings: Settings, log: Logger): Parameters<typeof openEngine>[0] {
  return {
    dataRoot: settings["data-root"],
    execRoot: settings["exec-root"],
    storageDriver: settings["storage-driver"],
    storageOptions: keyValues(settings["storage-opts"] ?? []),
    pluginDirs: settings["plugin-dirs"],
    volumeDeadline: milliseconds(settings["volume-deadline"]),
    report: (message, error) => log.warn({ err: error }, message),
  };
}

function serve(engine: Engine, settings: Settings, log: Logger): Promise<DockerApi> {
  const facts = {
    id: engine.id,
    dataRoot: engine.dataRoot,
    programs: engine.programs,
    warnings: [],
    debug: settings.debug ?? false,
    labels: settings.labels ?? [],
    insecureRegistries: settings["insecure-registries"] ?? [],
  };
  return createDockerApi(
    { ...engine, facts },
    {
      onFailure: (error, request) => log.error({ err: error, request }, "a request failed"),
    },
  );
}

async function listen(api: DockerApi, settings: Settings, log: Logger): Promise<void> {
  const hosts = settings.hosts ?? [`unix://${settings["exec-root"] ?? defaultExecRoot}/strata.sock`];
  for (const address of hosts.map(parseAddress)) {
    if (address.kind === "tcp")
      log.warn(
        `the API on ${address.host}:${address.port} is open to everyone who reaches it, and gives root on this machine`,
      );
    log.info({ host: await api.listen(address) }, "the API listens");
  }
}

async function holdPidFile(path: string, stack: AsyncDisposableStack): Promise<void> {
  await writeFile(path, `${process.pid}\n`, { mode: 0o644 });
  stack.defer(() => unlink(path).catch(() => undefined));
}
