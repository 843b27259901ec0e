/**
 * Memory that was freed goes back to the kernel. glibc keeps what threads and streams gave back for the next ones; an
 * idle daemon has no next ones. Where the C library has no such call (musl) nothing is kept, and nothing happens.
 *
 * A start leaves more: source texts, and the stripper of types where something had to be compiled. The collector would
 * take them when the heap has doubled, which an idle daemon's never does.
 */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { native } from "./libc.ts";

const trim = native("int malloc_trim(size_t)");
let isKnown = true;

/** Takes some milliseconds: for moments without work. */
export function giveBackFreeMemory(): void {
  if (!isKnown) return;
  try {
    trim(0);
  } catch {
    isKnown = false;
  }
}

/** Once, when a start has come to rest: everything that can be collected, in a pause of about a tenth of a second. */
export function giveBackStartMemory(): void {
  setFlagsFromString("--expose-gc");
  const collect: unknown = runInNewContext("gc");
  setFlagsFromString("--no-expose-gc");
  if (typeof collect === "function") collect({ type: "major", execution: "sync", flavor: "last-resort" });
  giveBackFreeMemory();
}
