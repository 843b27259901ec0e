/** The calling side of copies of volumes' data (content-task.ts): how far they are is told, and they end when they are aborted. */
import { utimes } from "node:fs/promises";
import { type CopyProgress, silent, type Telling, telling } from "../archive/copy-progress.ts";
import { linesOf } from "../archive/lines.ts";
import { MirrorRun } from "../archive/mirror.ts";
import type { PassResult } from "../archive/mirror-tree.ts";
import type { PassedMessage } from "../archive/steps.ts";
import type { TreeSize } from "../archive/tree-size.ts";
import type { Pool, TaskOptions } from "../host/pool.ts";
import type { CopyData, Home, MakeData } from "./content-task.ts";
import type { CopyWork } from "./driver.ts";

const tasks = new URL("./content-task.ts", import.meta.url);

/** Where a copy runs, and what it does for who asked for it. */
export type Copying = { readonly pool: Pool; readonly work: CopyWork };

/** Runs a task that copies what nobody changes. */
export async function copyOnce(copying: Copying, name: "makeDataTask", argument: MakeData): Promise<void>;
export async function copyOnce(copying: Copying, name: "copyDataTask", argument: CopyData): Promise<void>;
export async function copyOnce(copying: Copying, name: string, argument: MakeData | CopyData): Promise<void> {
  const source = "target" in argument ? argument : { home: argument.source ?? argument.home, data: argument.data };
  const tell = await progressOf(copying, source);
  const { output, result } = copying.pool.stream<object, void>(tasks, name, argument, optionsOf(copying.work));
  for await (const line of linesOf(output)) tell.passed((JSON.parse(line) as PassedMessage).passed);
  await result;
  copying.work.signal?.throwIfAborted();
  tell.done();
}

type Begun = {
  readonly run: MirrorRun;
  readonly target: string;
  readonly tell: Telling;
  /** What the last pass found. */
  readonly last: PassResult;
  readonly signal: AbortSignal | undefined;
};

/** A copy of data that others may change, in passes. Disposing ends it; what was copied stays. */
export class DataCopy implements AsyncDisposable {
  readonly #run: MirrorRun;
  readonly #target: string;
  readonly #tell: Telling;
  readonly #last: PassResult;
  readonly #signal: AbortSignal | undefined;

  private constructor({ run, target, tell, last, signal }: Begun) {
    this.#run = run;
    this.#target = target;
    this.#tell = tell;
    this.#last = last;
    this.#signal = signal;
  }

  /** Resolves when little is left; without somebody who can let its users stand still, when nothing is, if that comes soon. */
  static async begin(copying: Copying, argument: CopyData): Promise<DataCopy> {
    const { pool, work } = copying;
    await using stack = new AsyncDisposableStack();
    const tell = await progressOf(copying, argument);
    const { signal, still } = work;
    const run = stack.use(new MirrorRun({ pool, signal, task: { module: tasks, name: "mirrorDataTask", argument } }));
    const { last } = await run.live(tell.passed, still === undefined);
    stack.move();
    return new DataCopy({ run, target: argument.target, tell, last, signal });
  }

  /** `still`: nobody writes any more, so the rest is copied. True when it is of one moment. */
  async finish(still: boolean): Promise<boolean> {
    // The time of a snapshot's directory is that of its moment.
    await utimes(this.#target, Date.now() / 1000, Date.now() / 1000);
    if (still) await this.#run.pass({ kind: "still" }, this.#tell.passed);
    this.#signal?.throwIfAborted();
    this.#tell.done();
    return still || this.#last.changed + this.#last.missed === 0;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#run[Symbol.asyncDispose]();
  }
}

/** What there is in all is counted first. */
async function progressOf({ pool, work }: Copying, { home, data }: Home): Promise<Telling> {
  const { progress } = work;
  if (progress === undefined) return silent;
  const size = await pool.run<Home, TreeSize>(tasks, "sizeTask", { home, data }, optionsOf(work));
  progress({ entries: 0, bytes: 0, totalEntries: size.inodes - 1, totalBytes: size.bytes } satisfies CopyProgress);
  return telling(size, progress);
}

const optionsOf = ({ signal }: CopyWork): TaskOptions => (signal === undefined ? {} : { signal });
