/**
 * The pool of worker threads (see pool.ts). A thread starts when a task finds none free, stays for the next ones, and
 * ends after `idleMs` without work. Beyond `size` threads tasks wait in line, except that a thread whose tasks all
 * wait for bytes (a slow download, a client that does not read) takes one more: slow peers never block the others.
 *
 * Promises: a task settles once its function did, also when it was aborted, so that nothing it does is still under
 * way; a thread that dies rejects its tasks as `internal`, and the next task gets a new one. Threads do not keep the
 * process alive while they are idle.
 */
import { setFlagsFromString } from "node:v8";
import { Worker } from "node:worker_threads";
import { EngineError } from "../base/errors.ts";
import type { Pool, RunningTask, TaskOptions } from "./pool.ts";
import { PoolTask } from "./pool-task.ts";
import type { FromWorker, WorkerData } from "./worker-protocol.ts";

export type PoolOptions = {
  /** Most threads; each costs about 13 MB. */
  readonly size?: number;
  /** How long a thread without work stays. */
  readonly idleMs?: number;
  /** Most JavaScript memory of a thread, in MiB; a task beyond it fails, the process lives on. */
  readonly heapMb?: number;
  /** Told when the last thread has ended. */
  readonly onIdle?: () => void;
};

/** Tasks that may wait on one thread. */
const slots = 64;
/** How long dispose waits for running tasks to see that they are aborted. */
const disposeGraceMs = 5000;

/** Sources run as they are; a build has `.js` beside this file. */
const extension = import.meta.url.endsWith(".ts") ? ".ts" : ".js";
const program = new URL(`./worker-main${extension}`, import.meta.url);

/** A build does not rewrite the address of a task module, which sources write with `.ts`. */
export const builtModule = (module: URL, to = extension): string =>
  to === ".js" ? module.href.replace(/\.ts$/, ".js") : module.href;

class Thread {
  readonly tasks = new Map<number, PoolTask>();
  readonly abortFlags = new Int32Array(new SharedArrayBuffer(slots * 4));
  readonly worker: Worker;
  readonly ended: Promise<void>;
  idle: NodeJS.Timeout | undefined;

  constructor(heapMb: number) {
    const workerData: WorkerData = { abortFlags: this.abortFlags };
    // A bound that the program was started with is for its first thread, whose heap has it already; it would go before ours.
    setFlagsFromString("--max-semi-space-size=0");
    this.worker = new Worker(program, {
      workerData,
      // Descriptors of system calls are closed by those who opened them, not by the end of a thread.
      trackUnmanagedFds: false,
      // Options of this process, as --eval or --test, are not for its threads.
      execArgv: [],
      resourceLimits: { maxOldGenerationSizeMb: heapMb, maxYoungGenerationSizeMb: 16 },
    });
    this.ended = new Promise((resolve) => this.worker.once("exit", () => resolve()));
  }

  get isFree(): boolean {
    return this.tasks.size < slots && this.tasks.values().every((task) => task.isStalled);
  }

  freeSlot(): number {
    const used = new Set(this.tasks.values().map((task) => task.slot));
    return Array.from({ length: slots }, (_, slot) => slot).find((slot) => !used.has(slot)) ?? 0;
  }
}

class WorkerPool implements Pool {
  readonly #size: number;
  readonly #idleMs: number;
  readonly #heapMb: number;
  readonly #onIdle: () => void;
  readonly #threads = new Set<Thread>();
  readonly #queue: PoolTask[] = [];
  #lastTask = 0;
  #disposed = false;

  constructor({ size = 2, idleMs = 5000, heapMb = 1024, onIdle = () => undefined }: PoolOptions) {
    this.#heapMb = heapMb;
    this.#onIdle = onIdle;
    this.#size = size;
    this.#idleMs = idleMs;
  }

  async run<A, R>(module: URL, name: string, argument: A, options: TaskOptions = {}): Promise<R> {
    const { output, result } = this.stream<A, R>(module, name, argument, options);
    // Nobody reads what a plain task writes.
    await output[Symbol.asyncIterator]().return?.();
    return result;
  }

  stream<A, R>(module: URL, name: string, argument: A, options: TaskOptions = {}): RunningTask<R> {
    const call = { id: ++this.#lastTask, module: builtModule(module), name, argument };
    const task = new PoolTask(call, options, {
      onProgress: () => this.#dispatch(),
      onSettled: () => this.#settled(task),
    });
    if (options.signal?.aborted === true) task.reject(options.signal.reason);
    else if (this.#disposed) task.reject(new EngineError("unavailable", "the engine is shutting down"));
    else {
      this.#queue.push(task);
      this.#dispatch();
    }
    // The function's result has the type that its caller names: both are of one program.
    return { output: task.output, result: task.result as Promise<R> };
  }

  #dispatch(): void {
    while (this.#queue.length > 0) {
      const thread = this.#freeThread();
      const task = thread === undefined ? undefined : this.#queue.shift();
      if (thread === undefined || task === undefined) return;
      this.#start(thread, task);
    }
  }

  #freeThread(): Thread | undefined {
    const free = [...this.#threads].filter((thread) => thread.isFree);
    const idle = free.find((thread) => thread.tasks.size === 0);
    if (idle !== undefined) return idle;
    if (this.#threads.size < this.#size) return this.#addThread();
    return free.sort((a, b) => a.tasks.size - b.tasks.size)[0];
  }

  #start(thread: Thread, task: PoolTask): void {
    clearTimeout(thread.idle);
    thread.idle = undefined;
    thread.worker.ref();
    const slot = thread.freeSlot();
    Atomics.store(thread.abortFlags, slot, 0);
    thread.tasks.set(task.id, task);
    task.start({
      slot,
      post: (message, transfer = []) => thread.worker.postMessage(message, transfer),
      raiseAbort: () => Atomics.store(thread.abortFlags, slot, 1),
    });
  }

  #addThread(): Thread {
    const thread = new Thread(this.#heapMb);
    this.#threads.add(thread);
    let failure: unknown;
    thread.worker.on("message", (message: FromWorker) => thread.tasks.get(message.task)?.handle(message));
    thread.worker.on("error", (error) => {
      failure = error;
    });
    thread.worker.once("exit", (code) => this.#died(thread, failure ?? new Error(`worker exited with code ${code}`)));
    return thread;
  }

  #died(thread: Thread, cause: unknown): void {
    this.#threads.delete(thread);
    clearTimeout(thread.idle);
    for (const task of thread.tasks.values())
      task.reject(new EngineError("internal", `a worker thread died during ${task.name}`, { cause }));
    this.#dispatch();
  }

  #settled(task: PoolTask): void {
    const queued = this.#queue.indexOf(task);
    if (queued >= 0) this.#queue.splice(queued, 1);
    for (const thread of this.#threads) {
      if (!thread.tasks.delete(task.id) || thread.tasks.size > 0) continue;
      thread.worker.unref();
      thread.idle = setTimeout(() => this.#end(thread), this.#idleMs).unref();
    }
    this.#dispatch();
  }

  #end(thread: Thread): void {
    this.#threads.delete(thread);
    void thread.worker.terminate().then(() => {
      if (this.#threads.size === 0 && !this.#disposed) this.#onIdle();
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed = true;
    const reason = new EngineError("unavailable", "the engine is shutting down");
    const threads = [...this.#threads];
    const tasks = [...this.#queue, ...threads.flatMap((thread) => [...thread.tasks.values()])];
    for (const task of tasks) task.abort(reason);
    let timer: NodeJS.Timeout | undefined;
    const grace = new Promise((resolve) => {
      timer = setTimeout(resolve, disposeGraceMs);
    });
    await Promise.race([grace, Promise.allSettled(tasks.map((task) => task.result))]);
    clearTimeout(timer);
    for (const thread of threads) this.#end(thread);
    await Promise.all(threads.map((thread) => thread.ended));
  }
}

/** A pool of at most `size` (2) threads that end after `idleMs` (5000) without work. */
export function createPool(options: PoolOptions = {}): Pool {
  return new WorkerPool(options);
}
