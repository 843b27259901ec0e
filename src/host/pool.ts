/**
 * Work that must not run on the event loop, in a small pool of worker threads, started on need and ended when idle.
 * A task is an exported function of a module; bytes flow in and out with back-pressure, so nothing is held whole.
 */

/** What a task function gets besides its arguments. Inside, synchronous calls are right. */
export type TaskContext = {
  /** Bytes that the caller gave as `input`. A chunk is good until the next one is asked for: its memory is used again. */
  readonly input: AsyncIterable<Uint8Array>;
  /** Sends bytes to the caller; wait for it before the next. */
  readonly write: (chunk: Uint8Array) => Promise<void>;
  readonly signal: AbortSignal;
};

export type TaskFunction<A, R> = (argument: A, context: TaskContext) => Promise<R> | R;

export type TaskOptions = { readonly input?: AsyncIterable<Uint8Array>; readonly signal?: AbortSignal };

/** A running task: its bytes, and its result once the bytes have ended (or nobody reads them). */
export type RunningTask<R> = { readonly output: AsyncIterable<Uint8Array>; readonly result: Promise<R> };

/** Arguments and results are structured clones. EngineError codes and system error codes survive the passage. */
export interface Pool extends AsyncDisposable {
  /** `module` is a URL (`new URL("./unpack-task.ts", import.meta.url)`), `name` the exported function. */
  run<A, R>(module: URL, name: string, argument: A, options?: TaskOptions): Promise<R>;
  stream<A, R>(module: URL, name: string, argument: A, options?: TaskOptions): RunningTask<R>;
}
