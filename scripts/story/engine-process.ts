/** The engine that the story runs on: `strata daemon` as a child in a process group of its own, so that Ctrl-C reaches it through us. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { type Api, openApi } from "./api.ts";

export type EngineProcess = {
  readonly api: Api;
  readonly pid: number;
  readonly ended: Promise<number>;
  readonly stop: () => Promise<void>;
};

const project = new URL("../..", import.meta.url).pathname;

/** The socket that the arguments ask for, else the default. */
export function socketOf(args: readonly string[]): string {
  const at = args.findIndex((arg) => arg === "-H" || arg === "--host");
  const host = at >= 0 ? args[at + 1] : args.find((arg) => arg.startsWith("--host="))?.slice("--host=".length);
  return host?.startsWith("unix://") ? host.slice("unix://".length) : "/run/strata/strata.sock";
}

/** Starts the daemon and waits until it answers; its own words are on stderr when it cannot. */
export async function startEngine(args: readonly string[]): Promise<EngineProcess> {
  const quiet = args.some((arg) => arg.startsWith("--log-level") || arg === "--debug") ? [] : ["--log-level", "warn"];
  const options = { stdio: ["ignore", "inherit", "inherit"] as ["ignore", "inherit", "inherit"], detached: true };
  const child: ChildProcess = spawn(`${project}/bin/strata`, ["daemon", ...quiet, ...args], options);
  const ended = once(child, "exit").then(([code]) => (typeof code === "number" ? code : 1));
  const api = openApi(socketOf(args));
  for (let tries = 0; ; tries++) {
    const answer = await api.call("/_ping").catch(() => undefined);
    if (answer === "OK") break;
    if (child.exitCode !== null || tries > 1000) throw new Error("the engine did not start; its own words are above");
    await sleep(30);
  }
  // An engine that was there before us answers too: ours must be the one that runs.
  await sleep(50);
  if (child.exitCode !== null) throw new Error("the engine did not start; its own words are above");
  return {
    api,
    pid: child.pid ?? -1,
    ended,
    stop: async () => {
      if (child.exitCode === null) child.kill("SIGTERM");
      await ended;
    },
  };
}
