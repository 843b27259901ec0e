/**
 * One child process that runs tasks (child-main.ts). It is started at once and talks when it can; it may be killed at any
 * time. A child that waits in the kernel for a server that never answers cannot die: it is let go of, and ends later.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { EngineError } from "../base/errors.ts";
import type { PoolTask } from "./pool-task.ts";
import type { FromWorker } from "./worker-protocol.ts";

const extension = import.meta.url.endsWith(".ts") ? ".ts" : ".js";
const program = new URL(`./child-main${extension}`, import.meta.url);

export type TaskChildEvents = {
  /** It can run tasks. */
  readonly onReady: () => void;
  /** It has ended; its tasks are settled. */
  readonly onEnd: () => void;
};

export type TaskChildOptions = {
  /** Most JavaScript memory, in MiB. */
  readonly heapMb: number;
  /** Of its I/O threads: as many calls may wait at once. */
  readonly threads: number;
};

export class TaskChild {
  readonly tasks = new Map<number, PoolTask>();
  readonly ended: Promise<void>;
  readonly #process: ChildProcess;
  #ready = false;
  #gone = false;

  constructor({ heapMb, threads }: TaskChildOptions, { onReady, onEnd }: TaskChildEvents) {
    const flags = [
      `--max-old-space-size=${heapMb}`,
      "--max-semi-space-size=2",
      "--disable-warning=ExperimentalWarning",
    ];
    this.#process = spawn(process.execPath, [...flags, fileURLToPath(program), `${process.pid}`], {
      stdio: ["ignore", "ignore", "inherit", "ipc"],
      serialization: "advanced",
      cwd: "/",
      env: { ...process.env, UV_THREADPOOL_SIZE: `${threads}`, NODE_OPTIONS: "", NODE_CHANNEL_FD: undefined },
    });
    const { promise, resolve } = Promise.withResolvers<void>();
    this.ended = promise;
    this.#process.on("message", (message: FromWorker | { readonly type: "ready" }) => {
      if (message.type !== "ready") this.tasks.get(message.task)?.handle(message);
      else {
        this.#ready = true;
        onReady();
        if (this.tasks.size === 0) this.unref();
      }
    });
    const end = (cause: unknown): void => {
      if (this.#gone) return;
      this.#gone = true;
      for (const task of [...this.tasks.values()])
        task.reject(new EngineError("internal", `a child process ended during ${task.name}`, { cause }));
      onEnd();
      resolve();
    };
    this.#process.once("error", end);
    this.#process.once("exit", (code, signal) => end(new Error(`exit ${code ?? signal}`)));
  }

  get pid(): number {
    return this.#process.pid ?? -1;
  }

  get isReady(): boolean {
    return this.#ready && !this.#gone;
  }

  start(task: PoolTask): void {
    this.tasks.set(task.id, task);
    this.#process.ref();
    this.#process.channel?.ref();
    task.start({
      slot: 0,
      // What is sent to one that has just ended is nobody's; its end settles the task.
      post: (message) => void this.#process.send(message, () => undefined),
      raiseAbort: () => undefined,
    });
  }

  /** Keeps this process alive no longer. */
  unref(): void {
    this.#process.unref();
    this.#process.channel?.unref();
  }

  kill(): void {
    this.#process.kill("SIGKILL");
    this.unref();
  }

  /**
   * A word that changes whenever its main thread gets on: time on a processor and turns taken. The kernel is asked, so it
   * holds for synchronous work as well. Undefined: nothing can be said.
   */
  pulse(): string | undefined {
    try {
      const state = readFileSync(`/proc/${this.pid}/stat`, "latin1").replace(/^.*\) /s, "")[0];
      // It could go on if only it got a processor.
      if (state === "R") return `${performance.now()}`;
      return readFileSync(`/proc/${this.pid}/schedstat`, "latin1");
    } catch {
      return undefined;
    }
  }
}
