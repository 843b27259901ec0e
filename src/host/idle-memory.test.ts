import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { giveBackMemory } from "./idle-memory.ts";
import { native } from "./libc.ts";

const anonymous = (): number =>
  Number(/^RssAnon:\s+(\d+)/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1] ?? Number.NaN);

test("memory that was freed goes back to the kernel", (t) => {
  if (process.report === undefined || !JSON.stringify(process.report.getReport()).includes("glibcVersionRuntime"))
    return t.skip("this C library is not glibc");
  const malloc = native("intptr_t malloc(size_t)");
  const set = native("void *memset(intptr_t, int, size_t)");
  const free = native("void free(intptr_t)");
  const size = 64 * 1024;
  const blocks = Array.from({ length: 800 }, () => malloc(size));
  for (const block of blocks) set(block, 1, size);
  // the last one stays and holds the heap's end up, as it is in a process that lived a while
  const last = blocks.pop() ?? 0;
  for (const block of blocks) free(block);
  const before = anonymous();
  giveBackMemory();
  assert.ok(before - anonymous() > 40_000, `${before} kB before, ${anonymous()} kB after`);
  free(last);
});

test("what was left on the heap is collected when it is much", async () => {
  const leave = (): WeakRef<object> => new WeakRef(Array.from({ length: 1_000_000 }, (_, index) => ({ index })));
  giveBackMemory();
  const left = leave();
  // a reference that was just made is kept until the turn of the event loop ends
  await setTimeout(1);
  giveBackMemory();
  assert.equal(left.deref(), undefined);
});
