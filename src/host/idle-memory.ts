/**
 * An idle daemon gives memory back to the kernel, which nothing else would do: the collector waits until the heap has
 * doubled, and glibc keeps what was freed for the next ones. Called when a start has come to rest (it leaves source
 * texts, and the stripper of types where something had to be compiled) and when the worker threads have ended.
 */
import { getHeapStatistics, setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { native } from "./libc.ts";

const trim = native("int malloc_trim(size_t)");
let canTrim = true;

/** A collection holds the process up for about a tenth of a second: it must be worth it. */
const worthwhile = 4 * 1024 * 1024;
let heapAfter = 0;

/** For moments without work. */
export function giveBackMemory(): void {
  if (getHeapStatistics().total_physical_size > heapAfter + worthwhile) {
    collectGarbage();
    heapAfter = getHeapStatistics().total_physical_size;
  }
  if (!canTrim) return;
  try {
    trim(0);
  } catch {
    // Another C library (musl), which keeps nothing.
    canTrim = false;
  }
}

function collectGarbage(): void {
  setFlagsFromString("--expose-gc");
  const collect: unknown = runInNewContext("gc");
  setFlagsFromString("--no-expose-gc");
  if (typeof collect === "function") collect({ type: "major", execution: "sync", flavor: "last-resort" });
}
