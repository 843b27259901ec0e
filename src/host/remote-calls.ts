/**
 * Single calls on paths below a remote volume: is it answering, take its mount away. They run in a child process with
 * many I/O threads, where a call that hangs costs a thread and nothing else, so they are never killed: a call that is
 * overdue for its caller goes on, and its end tells when the server answers again.
 */
import { EngineError, isError } from "../base/errors.ts";
import { isMountPoint, mountTable } from "./mount.ts";
import { PoolTask } from "./pool-task.ts";
import { TaskChild } from "./task-child.ts";
import { builtModule } from "./worker-pool.ts";

const tasks = new URL("./remote-calls-task.ts", import.meta.url);
/** I/O threads of one child; one that has fewer than `spare` left is not given more. */
const threads = 96;
const spare = 16;
const idleMs = 10_000;
const heapMb = 128;

export type Patience = {
  /** Milliseconds that the caller waits. */
  readonly deadline: number;
  /** The subject of the sentence that tells of the deadline. */
  readonly what: string;
};

/** A look that waits for its answer. */
type Look = { readonly answer: Promise<boolean>; readonly since: number };

export class RemoteCalls implements AsyncDisposable {
  readonly #children = new Set<TaskChild>();
  readonly #ready = new WeakMap<TaskChild, Promise<void>>();
  readonly #looks = new Map<string, Look>();
  #idle: NodeJS.Timeout | undefined;
  #lastTask = 0;
  #disposed = false;

  /** Resolves when whoever serves `path` has answered: whether it is a directory. Throws what it said, or deadline_exceeded. */
  look(path: string, patience: Patience): Promise<boolean> {
    return this.#within(patience, () => this.answered(path));
  }

  /** The same without a deadline: it may take for ever. Many who ask for one path are one call. */
  answered(path: string): Promise<boolean> {
    const pending = this.#looks.get(path);
    if (pending !== undefined) return pending.answer;
    const answer = this.#call<boolean>("lookTask", path).finally(() => this.#looks.delete(path));
    answer.catch(() => undefined);
    this.#looks.set(path, { answer, since: performance.now() });
    return answer;
  }

  /** With its parents. */
  makeDirectory(path: string, patience: Patience): Promise<void> {
    return this.#within(patience, () => this.#call<void>("makeDirectoryTask", path));
  }

  /**
   * Takes every mount on `target` away. A filesystem that does not answer, and is seen nowhere else, is unmounted by force:
   * what waits for it fails. With one that does answer what was not written yet would be lost.
   */
  async detach(target: string, patience: Patience): Promise<void> {
    if (!isMountPoint(target)) return;
    const force = (await this.#hangs(target, patience)) && isAlone(target);
    try {
      await this.#within(patience, () => this.#call<void>("detachTask", { target, force }));
    } catch (error) {
      // Out of the table it is gone for everybody; what it still has to say to its server is its own.
      if (isMountPoint(target)) throw error;
    }
  }

  async #hangs(target: string, { deadline, what }: Patience): Promise<boolean> {
    const since = this.#looks.get(target)?.since ?? Number.POSITIVE_INFINITY;
    if (performance.now() - since > deadline) return true;
    return this.look(target, { deadline: deadline / 2, what }).then(
      () => false,
      (error: unknown) => isError(error, "deadline_exceeded"),
    );
  }

  /** The time that a child needs to begin is not the server's. */
  async #within<T>({ deadline, what }: Patience, work: () => Promise<T>): Promise<T> {
    await this.#ready.get(this.#childWithRoom());
    const late = Promise.withResolvers<never>();
    const timer = setTimeout(() => {
      late.reject(new EngineError("deadline_exceeded", `${what} did not answer within ${deadline / 1000} s`));
    }, deadline);
    const working = work();
    working.catch(() => undefined);
    try {
      return await Promise.race([working, late.promise]);
    } finally {
      clearTimeout(timer);
    }
  }

  async #call<R>(name: string, argument: unknown): Promise<R> {
    const child = this.#childWithRoom();
    clearTimeout(this.#idle);
    const task: PoolTask = new PoolTask(
      { id: ++this.#lastTask, module: builtModule(tasks), name, argument },
      {},
      { onProgress: () => undefined, onSettled: () => this.#settled(child, task) },
    );
    child.tasks.set(task.id, task);
    await this.#ready.get(child);
    if (child.tasks.has(task.id)) child.start(task);
    return task.result as Promise<R>;
  }

  #childWithRoom(): TaskChild {
    if (this.#disposed) throw new EngineError("unavailable", "the engine is shutting down");
    const found = [...this.#children].find(({ tasks: { size } }) => size < threads - spare);
    if (found !== undefined) return found;
    const { promise, resolve } = Promise.withResolvers<void>();
    const child: TaskChild = new TaskChild(
      { heapMb, threads },
      {
        onReady: resolve,
        onEnd: () => {
          this.#children.delete(child);
          resolve();
        },
      },
    );
    this.#children.add(child);
    this.#ready.set(child, promise);
    return child;
  }

  #settled(child: TaskChild, task: PoolTask): void {
    child.tasks.delete(task.id);
    if (child.tasks.size === 0) child.unref();
    if ([...this.#children].some(({ tasks: { size } }) => size > 0)) return;
    this.#idle = setTimeout(() => this.#endAll(), idleMs).unref();
  }

  #endAll(): void {
    for (const child of this.#children) child.kill();
    this.#children.clear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed = true;
    clearTimeout(this.#idle);
    const children = [...this.#children];
    for (const child of children)
      for (const task of [...child.tasks.values()])
        task.reject(new EngineError("unavailable", "the engine is shutting down"));
    this.#endAll();
    const grace = Promise.withResolvers<void>();
    const timer = setTimeout(grace.resolve, 1000);
    await Promise.race([grace.promise, Promise.all(children.map((child) => child.ended))]);
    clearTimeout(timer);
  }
}

/** Force is felt by every mount of a filesystem, also those that are somebody else's. */
function isAlone(target: string): boolean {
  const table = mountTable();
  const device = table.findLast((entry) => entry.target === target)?.device;
  return table.every((entry) => entry.device !== device || entry.target === target);
}
