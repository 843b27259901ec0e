/** Tasks that the tests of the worker pool run on its threads. */
import { threadId } from "node:worker_threads";
import { EngineError } from "../base/errors.ts";
import type { TaskContext } from "./pool.ts";

export const add = ({ a, b }: { readonly a: number; readonly b: number }): number => a + b;
export const thread = (): number => threadId;

export async function upper(_: undefined, { input, write }: TaskContext): Promise<number> {
  let count = 0;
  for await (const chunk of input) {
    count += chunk.length;
    await write(Buffer.from(Buffer.from(chunk).toString("latin1").toUpperCase(), "latin1"));
  }
  return count;
}

export async function countInput(_: undefined, { input }: TaskContext): Promise<number> {
  let count = 0;
  for await (const chunk of input) count += chunk.length;
  return count;
}

/** How much of the first chunk is there after `count` more were read. */
export async function keepFirst(count: number, { input }: TaskContext): Promise<number> {
  let first: Uint8Array | undefined;
  let more = 0;
  for await (const chunk of input) {
    first ??= chunk;
    if (more++ === count) break;
  }
  return first?.length ?? -1;
}

export async function firstChunk(_: undefined, { input }: TaskContext): Promise<number> {
  for await (const chunk of input) return chunk.length;
  return 0;
}

/** Writes `count` times one buffer that it uses again and again, `size` bytes each. */
export async function produce(
  { size, count }: { readonly size: number; readonly count: number },
  { write }: TaskContext,
): Promise<number> {
  const buffer = Buffer.alloc(size);
  for (let index = 0; index < count; index++) await write(buffer.fill(index));
  return count;
}

/** As `produce`, telling through shared memory how far it came. */
export async function produceCounted(progress: Int32Array, { write }: TaskContext): Promise<void> {
  for (let index = 0; index < 1000; index++) {
    await write(Buffer.alloc(64 * 1024));
    Atomics.add(progress, 0, 1);
  }
}

export function fail(kind: "engine" | "system" | "plain"): void {
  const system = Object.assign(new Error("ENOENT: no such file"), {
    code: "ENOENT",
    errno: 2,
    syscall: "open",
    path: "/x",
  });
  if (kind === "system") throw system;
  if (kind === "engine") throw new EngineError("conflict", "layer x is in use", { cause: system });
  throw new TypeError("not a function");
}

export function spin(started: Int32Array, { signal }: TaskContext): void {
  Atomics.store(started, 0, 1);
  for (;;) signal.throwIfAborted();
}

export async function waitForAbort(stopped: Int32Array, { signal }: TaskContext): Promise<void> {
  await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
  Atomics.store(stopped, 0, 1);
  signal.throwIfAborted();
}

export const exit = (): never => process.exit(3);

export function exhaustMemory(): number {
  const kept: string[][] = [];
  for (;;) kept.push(Array.from({ length: 100_000 }, (_, index) => `entry ${index} of ${kept.length}`));
}

export const uncloneable = (): unknown => ({ method: () => 1 });
