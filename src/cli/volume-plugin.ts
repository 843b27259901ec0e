/**
 * Runs the volume plugin until it is told to stop. What containers use stays mounted then, and the next plugin on the
 * same data root takes it up again; so does one after a crash.
 */
import { resolve } from "node:path";
import { EngineError } from "../base/errors.ts";
import { serveVolumePlugin } from "../serve/volume-plugin/server.ts";
import { openVolumeEngine } from "../volume-engine.ts";
import { createLog } from "./log.ts";
import { stopSignal } from "./stop-signal.ts";
import { parseVolumeDeadline } from "./volume-deadline.ts";
import type { VolumePluginFlags } from "./volume-plugin-command.ts";

const defaultSocket = "/run/docker/plugins/strata.sock";
const levels = ["debug", "info", "warn", "error", "fatal"];
/** Milliseconds for the parts to close before the process ends anyway. */
const closeDeadline = 30_000;

/** Throws before it serves when it cannot start. */
export async function runVolumePlugin(flags: VolumePluginFlags): Promise<void> {
  if (process.getuid?.() !== 0) throw new EngineError("forbidden", "the plugin mounts filesystems: run it as root");
  const { logLevel = "info" } = flags;
  if (!levels.includes(logLevel))
    throw new EngineError("invalid_argument", `--log-level ${logLevel}: give one of ${levels.join(", ")}`);
  const volumeDeadline = parseVolumeDeadline(flags.volumeDeadline);
  const log = createLog(logLevel, process.stderr.isTTY === true);
  process.on("uncaughtException", (error) => log.error({ err: error }, "a failure that nobody handled"));
  process.on("unhandledRejection", (error) => log.error({ err: error }, "a failure that nobody waited for"));
  const stop = stopSignal(log);
  await using stack = new AsyncDisposableStack();
  const { volumes, dataRoot, drivers } = stack.use(
    await openVolumeEngine({
      dataRoot: flags.dataRoot,
      drivers: namesIn(flags.driver),
      volumeDeadline,
      report: (message, error) => log.warn({ err: error }, message),
    }),
  );
  const socket = resolve(flags.socket ?? defaultSocket);
  const onFailure = (error: unknown, method: string): void => log.error({ err: error, method }, "a call failed");
  stack.use(await serveVolumePlugin(volumes, { socket, onFailure }));
  log.info({ socket, dataRoot, drivers }, "the volume plugin is up");
  await stop;
  setTimeout(() => process.exit(1), closeDeadline).unref();
  await stack.disposeAsync();
  log.info("the volume plugin is down; what containers use stays mounted");
  process.exit(0);
}

function namesIn(list: string | undefined): readonly string[] | undefined {
  if (list === undefined) return undefined;
  const names = [...new Set(list.split(",").map((name) => name.trim()))].filter((name) => name !== "");
  if (names.length === 0) throw new EngineError("invalid_argument", "--driver names no driver");
  return names;
}
