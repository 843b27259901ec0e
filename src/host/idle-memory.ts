/**
 * Memory that was freed goes back to the kernel. glibc keeps what threads and streams gave back for the next ones; an
 * idle daemon has no next ones. Where the C library has no such call (musl) nothing is kept, and nothing happens.
 */
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
