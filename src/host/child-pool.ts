/**
 * Tasks in child processes, for work that may hang in the kernel: what a volume of a network, a FUSE program or a plugin
 * shows. It runs the same task modules as the worker pool (pool.ts), but every run has a deadline, and a child that is
 * overdue is killed, or, where it waits in a way that no signal ends, abandoned and counted.
 *
 * A run belongs to a *lane*: a name for whatever may hang as one thing (a volume). A lane has few runs at a time, and
 * one with several abandoned children gets no more, so that no lane uses up what the others need. A child runs one task
 * at a time and is used again for any lane: one that has answered is healthy.
 */
import { EngineError } from "../base/errors.ts";
import type { Pool, RunningTask, TaskOptions } from "./pool.ts";
import { PoolTask } from "./pool-task.ts";
import { TaskChild } from "./task-child.ts";
import { builtModule } from "./worker-pool.ts";

export type Lane = {
  /** What may hang as one. */
  readonly key: string;
  /** Its name for people: the subject of the sentence that tells of a deadline. */
  readonly what: string;
  /** Milliseconds that a run may take altogether; without limit when undefined. */
  readonly deadline?: number;
  /**
   * Milliseconds without any sign of life: no time on a processor, no bytes, unless the other side is the one who waits.
   */
  readonly quiet: number;
};

export type ChildPoolOptions = {
  /** Most children that run tasks; abandoned ones not counted. */
  readonly size?: number;
  readonly perLane?: number;
  /** A lane with so many abandoned children is refused. */
  readonly abandonedPerLane?: number;
  readonly idleMs?: number;
  readonly heapMb?: number;
};

/** Milliseconds for a child to begin, on a machine that is busy with other things. */
const startDeadline = 60_000;
/** Milliseconds for a task to see that it is aborted. */
const abortGrace = 2000;
const watchInterval = 200;
/** Abandoned children of all lanes: each keeps its memory. */
const mostAbandoned = 64;

type Run = {
  readonly task: PoolTask;
  readonly lane: Lane;
  child?: TaskChild;
  readonly signal: AbortSignal | undefined;
};

export class ChildPool implements AsyncDisposable {
  readonly #options: Required<ChildPoolOptions>;
  readonly #idle = new Map<TaskChild, NodeJS.Timeout>();
  readonly #starting = new Set<TaskChild>();
  readonly #running = new Set<Run>();
  readonly #abandoned = new Map<TaskChild, Lane>();
  #queue: Run[] = [];
  #watch: NodeJS.Timeout | undefined;
  readonly #pulses = new WeakMap<Run, { word: string | undefined; at: number; began: number }>();
  #lastTask = 0;
  #disposed = false;

  constructor(options: ChildPoolOptions = {}) {
    this.#options = { size: 16, perLane: 2, abandonedPerLane: 3, idleMs: 5000, heapMb: 512, ...options };
  }

  /** Children that were given up and have not ended yet. */
  get abandoned(): number {
    return this.#abandoned.size;
  }

  /** The pool of a lane. Disposing it does nothing. */
  of(lane: Lane): Pool {
    const stream = <A, R>(module: URL, name: string, argument: A, options: TaskOptions = {}): RunningTask<R> =>
      this.#stream<R>(lane, { module: builtModule(module), name, argument }, options);
    return {
      stream,
      run: async <A, R>(module: URL, name: string, argument: A, options?: TaskOptions): Promise<R> => {
        const { output, result } = stream<A, R>(module, name, argument, options);
        await output[Symbol.asyncIterator]().return?.();
        return result;
      },
      [Symbol.asyncDispose]: async () => undefined,
    };
  }

  #stream<R>(
    lane: Lane,
    call: { readonly module: string; readonly name: string; readonly argument: unknown },
    options: TaskOptions,
  ): RunningTask<R> {
    const task: PoolTask = new PoolTask({ ...call, id: ++this.#lastTask }, options, {
      onProgress: () => undefined,
      onSettled: () => this.#settled(run),
    });
    const run: Run = { task, lane, signal: options.signal };
    const refusal = this.#refusal(lane);
    if (options.signal?.aborted === true) task.reject(options.signal.reason);
    else if (refusal !== undefined) task.reject(refusal);
    else {
      this.#queue.push(run);
      this.#dispatch();
    }
    return { output: task.output, result: task.result as Promise<R> };
  }

  #refusal({ key, what }: Lane): EngineError | undefined {
    if (this.#disposed) return new EngineError("unavailable", "the engine is shutting down");
    const waiting = [...this.#abandoned.values()].filter((lane) => lane.key === key).length;
    if (waiting >= this.#options.abandonedPerLane || this.#abandoned.size >= mostAbandoned)
      return new EngineError("unavailable", `${what} does not answer: ${waiting} processes wait for it already`);
    return undefined;
  }

  #dispatch(): void {
    const waiting: Run[] = [];
    for (const run of this.#queue) {
      const refusal = this.#refusal(run.lane);
      const ofLane = [...this.#running].filter(({ lane }) => lane.key === run.lane.key).length;
      if (refusal !== undefined) queueMicrotask(() => run.task.reject(refusal));
      else if (this.#running.size >= this.#options.size || ofLane >= this.#options.perLane) waiting.push(run);
      else this.#start(run);
    }
    this.#queue = waiting;
  }

  #start(run: Run): void {
    this.#running.add(run);
    const [idle] = this.#idle.keys();
    if (idle === undefined) {
      const child: TaskChild = this.#addChild(() => this.#begin(run, child));
      run.child = child;
    } else {
      clearTimeout(this.#idle.get(idle));
      this.#idle.delete(idle);
      this.#begin(run, idle);
    }
    this.#pulses.set(run, { word: undefined, at: performance.now(), began: performance.now() });
    this.#watch ??= setInterval(() => this.#look(), watchInterval);
  }

  #addChild(onReady: () => void): TaskChild {
    const child: TaskChild = new TaskChild(
      { heapMb: this.#options.heapMb, threads: 4 },
      {
        onReady: () => {
          this.#starting.delete(child);
          onReady();
        },
        onEnd: () => this.#ended(child),
      },
    );
    this.#starting.add(child);
    return child;
  }

  #begin(run: Run, child: TaskChild): void {
    // Aborted while its child began.
    if (!this.#running.has(run)) {
      this.#rest(child);
      return;
    }
    run.child = child;
    const now = performance.now();
    this.#pulses.set(run, { word: undefined, at: now, began: now });
    child.start(run.task);
  }

  /** Looks after every run: who is overdue, and who was aborted and does not notice. */
  #look(): void {
    const now = performance.now();
    for (const run of [...this.#running]) {
      const pulse = this.#pulses.get(run);
      if (pulse === undefined) continue;
      const { child, lane, task } = run;
      const starting = child !== undefined && this.#starting.has(child);
      const word = child?.pulse();
      if (task.isStalled || word !== pulse.word) {
        pulse.at = now;
        pulse.word = word;
      }
      const aborted = run.signal?.aborted === true;
      const quiet = starting ? startDeadline : aborted ? Math.min(abortGrace, lane.quiet) : lane.quiet;
      const late = !starting && lane.deadline !== undefined && now - pulse.began > lane.deadline;
      if (late) this.#giveUp(run, overdue(lane, lane.deadline));
      else if (now - pulse.at > quiet) this.#giveUp(run, overdue(lane, lane.quiet));
    }
  }

  #giveUp(run: Run, error: EngineError): void {
    const { child, lane, task } = run;
    if (child !== undefined) {
      this.#abandoned.set(child, lane);
      child.tasks.clear();
      child.kill();
    }
    task.reject(error);
  }

  #settled(run: Run): void {
    this.#queue = this.#queue.filter((queued) => queued !== run);
    if (this.#running.delete(run) && run.child !== undefined) {
      run.child.tasks.delete(run.task.id);
      if (!this.#starting.has(run.child)) this.#rest(run.child);
    }
    if (this.#running.size === 0) {
      clearInterval(this.#watch);
      this.#watch = undefined;
    }
    this.#dispatch();
  }

  /** Waits for other work, and ends without. */
  #rest(child: TaskChild): void {
    child.unref();
    if (!child.isReady || this.#abandoned.has(child)) return;
    if (this.#disposed) child.kill();
    else this.#idle.set(child, setTimeout(() => this.#end(child), this.#options.idleMs).unref());
  }

  #end(child: TaskChild): void {
    this.#idle.delete(child);
    child.kill();
  }

  #ended(child: TaskChild): void {
    clearTimeout(this.#idle.get(child));
    this.#idle.delete(child);
    this.#abandoned.delete(child);
    if (this.#starting.delete(child))
      for (const run of [...this.#running])
        if (run.child === child) run.task.reject(new EngineError("internal", "a child process could not begin"));
    this.#dispatch();
  }

  /** Every child is killed; the end of those that cannot die is not waited for. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    const children = [...this.#idle.keys(), ...this.#starting];
    for (const run of [...this.#queue, ...this.#running]) {
      if (run.child !== undefined) children.push(run.child);
      run.task.reject(new EngineError("unavailable", "the engine is shutting down"));
    }
    for (const timer of this.#idle.values()) clearTimeout(timer);
    for (const child of children) child.kill();
    const grace = Promise.withResolvers<void>();
    const timer = setTimeout(grace.resolve, abortGrace);
    await Promise.race([grace.promise, Promise.all(children.map((child) => child.ended))]);
    clearTimeout(timer);
  }
}

const overdue = ({ what }: Lane, milliseconds = 0): EngineError =>
  new EngineError("deadline_exceeded", `${what} did not answer within ${milliseconds / 1000} s`);
