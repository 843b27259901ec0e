/**
 * Programs that serve a mount as long as it stands (FUSE filesystems), run in the foreground of a session of their own:
 * they outlive this process, and end with the last mount. A server is known by a mark in its environment that names the
 * target, so a later process finds it again, with whatever it started, and no record can be wrong.
 *
 * The mark is asked of processes with the right names only: to read the environment of one that hangs may hang.
 */
import { spawn } from "node:child_process";
import { constants } from "node:fs";
import { type FileHandle, open, readdir, readFile } from "node:fs/promises";
import { constants as system } from "node:os";
import { basename } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { EngineError, systemCode } from "../base/errors.ts";
import { identify, type ProcessIdentity, signalProcess, waitUntilGone } from "./kernel-process.ts";
import { mountTable } from "./mount.ts";
import { detachAsync } from "./mount-calls.ts";
import { runProgram } from "./program.ts";

export type ServerCommand = {
  readonly program: string;
  readonly args: readonly string[];
  /** Given on stdin. */
  readonly input?: string;
  /** All of the environment but PATH; may hold secrets. */
  readonly env?: Readonly<Record<string, string>>;
  /** What it writes when its mount may be used, where that is later than when it answers. */
  readonly ready?: string;
};

export type ServerPlace = {
  /** A path without symlinks: mount tables know no others. */
  readonly target: string;
  /** Names of the processes that serve it: the program, and what it starts. */
  readonly names: readonly string[];
  /** What the program says; begun anew, and cut off by {@link trimLog}. */
  readonly log: string;
};

/** A program that ended, or did not mount in time; `said` is what it wrote last. */
export class ServerFailure extends Error {
  readonly said: string;
  readonly late: boolean;

  constructor(program: string, { said, late }: { readonly said: string; readonly late: boolean }) {
    super(late ? `${program} did not mount in time` : `${program} ended`);
    this.name = "ServerFailure";
    this.said = said;
    this.late = late;
  }
}

const mark = "STRATA_MOUNT";
const pollMs = 20;
/** Milliseconds for a server to end by itself, after a polite word, and after a kill. */
const patience = { itself: 5000, asked: 5000, killed: 2000 };
const tailLength = 4096;
const longestLog = 1024 * 1024;

type Start = { readonly deadline: number; readonly signal?: AbortSignal | undefined };

/** Resolves when the mount stands and answers. Throws ServerFailure, or the signal's reason; then nothing is left. */
export async function startServer(command: ServerCommand, place: ServerPlace, options: Start): Promise<void> {
  const { deadline, signal } = options;
  signal?.throwIfAborted();
  const before = mountsOn(place.target);
  const ended = await launch(command, place);
  const stop = AbortSignal.any([ended, AbortSignal.timeout(deadline), ...(signal === undefined ? [] : [signal])]);
  try {
    const stands = (): boolean => mountsOn(place.target) > before;
    // Asked twice: a program that fails takes its mount away again, and below that a directory answers.
    while (
      !(stands() && (await answers(place.target, deadline, stop)) && stands() && (await isReady(command, place)))
    ) {
      stop.throwIfAborted();
      await sleep(pollMs);
    }
  } catch (error) {
    await endServers(place, { itself: 0 });
    // It may have mounted in its last moment.
    while (mountsOn(place.target) > before) await detachAsync(place.target);
    if (!stop.aborted) throw error;
    if (ended.reason instanceof EngineError) throw ended.reason;
    if (!ended.aborted && signal?.aborted === true) throw signal.reason;
    throw new ServerFailure(basename(command.program), { said: await tailOf(place.log), late: !ended.aborted });
  }
}

async function isReady({ ready }: ServerCommand, { log }: ServerPlace): Promise<boolean> {
  return ready === undefined || (await tailOf(log)).includes(ready);
}

/** A child looks: who looks at a mount that does not answer waits. */
async function answers(target: string, deadline: number, signal: AbortSignal): Promise<boolean> {
  return (await runProgram("stat", ["--", target], { deadline, signal })).code === 0;
}

/** Aborted when the program has ended; with an EngineError when there is no such program. */
async function launch(
  { program, args, input, env }: ServerCommand,
  { target, log }: ServerPlace,
): Promise<AbortSignal> {
  const ended = new AbortController();
  await using output = await openLog(log);
  const child = spawn(program, args, {
    detached: true,
    cwd: "/",
    stdio: [input === undefined ? "ignore" : "pipe", output.fd, output.fd],
    env: { PATH: process.env.PATH ?? "/usr/sbin:/usr/bin:/sbin:/bin", LC_ALL: "C.UTF-8", ...env, [mark]: target },
  });
  child.once("exit", () => ended.abort());
  child.once("error", () => ended.abort(new EngineError("unsupported", `the program ${program} cannot be run`)));
  // It may end without reading.
  child.stdin?.on("error", () => undefined);
  child.stdin?.end(input);
  child.unref();
  return ended.signal;
}

/** Written at its end always, so that it can be cut off. */
function openLog(path: string): Promise<FileHandle> {
  const { O_WRONLY, O_CREAT, O_TRUNC, O_APPEND, O_NOFOLLOW } = constants;
  return open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_NOFOLLOW, 0o600);
}

const mountsOn = (target: string): number => mountTable().filter((entry) => entry.target === target).length;

/** Where servers are looked for. */
export type ServedTarget = Pick<ServerPlace, "names" | "target">;

/** The processes that serve a target. */
export async function serversOf({ names, target }: ServedTarget): Promise<readonly ProcessIdentity[]> {
  const pids = (await readdir("/proc")).filter((entry) => /^\d+$/.test(entry)).map(Number);
  const short = new Set(names.map((name) => name.slice(0, 15)));
  const found = await Promise.all(pids.map((pid) => serverAt(pid, short, target)));
  return found.filter((identity) => identity !== undefined);
}

async function serverAt(pid: number, names: ReadonlySet<string>, target: string): Promise<ProcessIdentity | undefined> {
  try {
    if (!names.has((await readFile(`/proc/${pid}/comm`, "utf8")).trimEnd())) return undefined;
    const words = (await readFile(`/proc/${pid}/environ`, "utf8")).split("\0");
    return words.includes(`${mark}=${target}`) ? await identify(pid) : undefined;
  } catch (error) {
    // Ended meanwhile, or somebody else's.
    const code = systemCode(error);
    if (code === "ENOENT" || code === "ESRCH" || code === "EACCES" || code === "EPERM") return undefined;
    throw error;
  }
}

/** Waits for the servers of a target to end, then ends them. False when one is left that cannot be ended. */
export async function endServers(
  place: ServedTarget,
  { itself = patience.itself }: { readonly itself?: number } = {},
): Promise<boolean> {
  if (await areGone(await serversOf(place), itself)) return true;
  for (const [signal, wait] of [
    [system.signals.SIGTERM, patience.asked],
    [system.signals.SIGKILL, patience.killed],
  ] as const) {
    const left = await serversOf(place);
    await Promise.all(left.map((server) => signalProcess(server, signal)));
    if (await areGone(left, wait)) return (await serversOf(place)).length === 0;
  }
  return false;
}

async function areGone(servers: readonly ProcessIdentity[], wait: number): Promise<boolean> {
  return (await Promise.all(servers.map((server) => waitUntilGone(server, wait)))).every(Boolean);
}

async function tailOf(log: string): Promise<string> {
  await using file = await open(log, "r");
  const { size } = await file.stat();
  const buffer = Buffer.alloc(Math.min(size, tailLength));
  await file.read(buffer, 0, buffer.length, size - buffer.length);
  return buffer.toString().trim();
}

/** A server that complains for months must not fill the disk: what it said is forgotten when it is too long. */
export async function trimLog(log: string): Promise<void> {
  try {
    await using file = await open(log, "r+");
    if ((await file.stat()).size > longestLog) await file.truncate();
  } catch (error) {
    if (systemCode(error) !== "ENOENT") throw error;
  }
}
