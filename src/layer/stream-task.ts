/**
 * A pool task's bytes as a generator that can be left at any time: the task is then told to stop, and the generator
 * ends only when the task has, so that what the task reads may be unmounted right after.
 */
import { EngineError } from "../base/errors.ts";
import type { Pool } from "../host/pool.ts";

export type TaskOf<A> = {
  readonly module: URL;
  readonly name: string;
  readonly argument: A;
  readonly signal?: AbortSignal | undefined;
};

/** Yields what the task writes; returns its result. */
export async function* streamTask<A, R>(pool: Pool, task: TaskOf<A>): AsyncGenerator<Uint8Array, R, void> {
  const left = new AbortController();
  const signal = task.signal === undefined ? left.signal : AbortSignal.any([left.signal, task.signal]);
  const running = pool.stream<A, R>(task.module, task.name, task.argument, { signal });
  try {
    yield* running.output;
    return await running.result;
  } finally {
    left.abort(new EngineError("canceled", "the reader left"));
    await running.result.catch(() => undefined);
  }
}
