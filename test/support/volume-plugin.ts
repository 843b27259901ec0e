/** A real `strata volume-plugin` for tests, on a socket and a data root of its own. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { openSync, readFileSync } from "node:fs";
import { request } from "node:http";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

export type Plugin = AsyncDisposable & {
  readonly socket: string;
  readonly dataRoot: string;
  readonly log: () => string;
  /** SIGTERM, waits for the end. */
  readonly stop: () => Promise<void>;
  /** SIGKILL, waits for the end. */
  readonly kill: () => Promise<void>;
};

export type PluginAnswer = { readonly status: number; readonly body: Readonly<Record<string, unknown>> };

/**
 * A name, and its socket where a stock dockerd looks. Every dockerd looks there, those of other tests too, so each plugin has a
 * name that nobody else has.
 */
export function stockPlugin(): { readonly name: string; readonly socket: string } {
  const name = `strata-${process.pid}-${++stockPlugins}`;
  return { name, socket: `/run/docker/plugins/${name}.sock` };
}
let stockPlugins = 0;

/** One call, as engines make it: no content type. */
export function callPlugin(socketPath: string, method: string, body?: object | string): Promise<PluginAnswer> {
  return new Promise((resolve, reject) => {
    const call = request({ socketPath, path: `/${method}`, method: "POST", timeout: 60_000 }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (part: string) => {
        text += part;
      });
      response.on("end", () => resolve({ status: response.statusCode ?? 0, body: JSON.parse(text) }));
    });
    call.on("timeout", () => call.destroy(new Error(`${method} was not answered`)));
    call.on("error", reject);
    call.end(typeof body === "string" ? body : body === undefined ? undefined : `${JSON.stringify(body)}\n`);
  });
}

export type PluginOptions = {
  /** Holds its log and its data root. */
  readonly root: string;
  readonly socket: string;
  readonly args?: readonly string[];
  /** Milliseconds until it must answer. */
  readonly patience?: number;
};

/** Starts it in `root` and waits until it answers. */
export function startPlugin(root: string, socket: string, args: readonly string[] = []): Promise<Plugin> {
  return launchPlugin({ root, socket, args });
}

/** The same, where it may be slow. */
export async function launchPlugin({ root, socket, args = [], patience = 60_000 }: PluginOptions): Promise<Plugin> {
  const dataRoot = join(root, "volumes-of-plugin");
  const logPath = join(root, "plugin.log");
  const log = openSync(logPath, "a");
  const program = new URL("../../bin/strata", import.meta.url).pathname;
  const all = ["volume-plugin", "--data-root", dataRoot, "--socket", socket, ...args];
  const child = spawn(program, all, { stdio: ["ignore", log, log] });
  const ended = once(child, "exit");
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    if (child.exitCode === null && child.signalCode === null) child.kill(signal);
    await ended;
  };
  const give = performance.now() + patience;
  while ((await callPlugin(socket, "Plugin.Activate").catch(() => undefined))?.status !== 200) {
    if (child.exitCode !== null || performance.now() > give) {
      await end("SIGKILL");
      throw new Error(`the plugin did not start:\n${readFileSync(logPath, "utf8")}`);
    }
    // Asking takes from what starts.
    await sleep(patience / 3000);
  }
  return {
    socket,
    dataRoot,
    log: () => readFileSync(logPath, "utf8"),
    stop: () => end("SIGTERM"),
    kill: () => end("SIGKILL"),
    [Symbol.asyncDispose]: () => end("SIGTERM"),
  };
}
