/**
 * Starts conmon, the small C program that stays with a container: it holds the stdio, writes the log and the exit code.
 * It forks itself away, so it and the container outlive the daemon. Two pipes lead to it: it waits on the start pipe
 * until its files are written, and tells on the sync pipe whether the runtime made the process.
 * For an attached exec a third pipe says when its socket can be reached; a second byte then lets the command run.
 *
 * It moves to a cgroup of its own while the runtime already works: the kernel lets the first process that changes cgroups
 * wait 5 ms (an RCU grace period), and so the runtime, which does the same a little later, finds the waiting done.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import type { Readable, Writable } from "node:stream";
import { EngineError } from "../base/errors.ts";
import { identify, type ProcessIdentity } from "../host/kernel-process.ts";
import type { ProcessDirectory } from "./layout.ts";
import { MessagePipe } from "./message-pipe.ts";

export type ConmonOptions = {
  readonly program: string;
  readonly arguments: readonly string[];
  /** Where it runs, and where it leaves the `oom` file. */
  readonly directory: ProcessDirectory;
  /** An attached exec. */
  readonly attached: boolean;
};

export type Conmon = {
  readonly sync: MessagePipe;
  readonly attach: MessagePipe | undefined;
  /** Lets it go on; again, with an attached exec, to let the command run. */
  readonly release: () => void;
  /** Resolves when the forking process is gone; its pid files are written then. */
  readonly forked: Promise<void>;
  /** What it wrote to stderr before it went away. */
  readonly complaint: () => string;
  /** Closes our ends of the pipes. */
  readonly close: () => void;
};

const longestComplaint = 8 * 1024;

export async function spawnConmon(options: ConmonOptions): Promise<Conmon> {
  const child = spawn(options.program, options.arguments, {
    cwd: options.directory.path,
    detached: true,
    stdio: ["ignore", "ignore", "pipe", "pipe", "pipe", ...(options.attached ? (["pipe"] as const) : [])],
    env: {
      PATH: process.env.PATH ?? "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
      _OCI_SYNCPIPE: "3",
      _OCI_STARTPIPE: "4",
      ...(options.attached ? { _OCI_ATTACHPIPE: "5" } : {}),
    },
  });
  const forked = new Promise<void>((done) => child.once("exit", () => done()));
  await spawned(child, options.program);
  const start = child.stdio[4] as Writable;
  // conmon may be gone already; its sync pipe tells.
  start.on("error", () => {});
  let complaint = "";
  child.stderr?.on("data", (data: Buffer) => {
    if (complaint.length < longestComplaint) complaint += data.toString();
  });
  const sync = new MessagePipe(child.stdio[3] as Readable);
  const attach = options.attached ? new MessagePipe((child.stdio as readonly unknown[])[5] as Readable) : undefined;
  const close = (): void => {
    start.destroy();
    sync.close();
    attach?.close();
    child.stderr?.destroy();
  };
  return {
    sync,
    attach,
    release: () => start.write("+"),
    forked,
    complaint: () => complaint,
    close,
  };
}

function spawned(child: ChildProcess, program: string): Promise<void> {
  return new Promise((done, fail) => {
    child.once("spawn", done);
    child.once("error", (cause) =>
      fail(new EngineError("unavailable", `cannot run ${program}: ${cause.message}; install conmon`, { cause })),
    );
  });
}

/** Waits until conmon has forked, moves the lasting one into its cgroup and tells who it is; undefined when it is gone. */
export async function settleConmon(
  conmon: Conmon,
  directory: ProcessDirectory,
  enter: (pid: number) => Promise<void>,
): Promise<ProcessIdentity | undefined> {
  await conmon.forked;
  const pid = Number(await readFile(directory.conmonPidFile, "utf8").catch(() => "0"));
  const keeper = pid > 0 ? await identify(pid) : undefined;
  if (keeper !== undefined) await enter(pid);
  return keeper;
}
