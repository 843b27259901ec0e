import assert from "node:assert/strict";
import { mkdtemp, open, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { formatLogTime, LogSplitter, parseLogEntry, parseLogTime } from "./log-line.ts";
import { tailOffset } from "./log-tail.ts";

const time = "2026-11-21T10:00:00.123456789+01:00";

test("an entry has a time, a stream, and an end or not", () => {
  const entry = parseLogEntry(Buffer.from(`${time} stderr P half a line `));
  assert.deepEqual(entry && { ...entry, data: Buffer.from(entry.data).toString() }, {
    stream: "stderr",
    time: 1795251600123456789n,
    ends: false,
    data: "half a line ",
  });
  assert.equal(parseLogEntry(Buffer.from(`${time} stdout F `))?.data.length, 0);
  assert.equal(parseLogEntry(Buffer.from(`${time} stdout F`))?.ends, true);
});

test("what is no entry is none", () => {
  for (const line of ["", "x", `${time} stdin F a`, `${time} stdout X a`, "yesterday stdout F a"])
    assert.equal(parseLogEntry(Buffer.from(line)), undefined, line);
});

test("times are shown in UTC with nine digits", () => {
  assert.equal(formatLogTime(parseLogTime(time) ?? 0n), "2026-11-21T09:00:00.123456789Z");
  assert.equal(formatLogTime(parseLogTime("2026-11-21T10:00:00Z") ?? 0n), "2026-11-21T10:00:00.000000000Z");
});

test("however a log is cut into chunks, the same bytes come out", () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.tuple(
          fc.boolean(),
          fc.uint8Array().map((data) => data.filter((byte) => byte !== 10)),
        ),
      ),
      fc.array(fc.nat(200)),
      (lines, cuts) => {
        const log = Buffer.concat(
          lines.map(([ends, data]) =>
            Buffer.concat([Buffer.from(`${time} stdout ${ends ? "F" : "P"} `), data, Buffer.from("\n")]),
          ),
        );
        const splitter = new LogSplitter();
        const entries = [];
        let from = 0;
        for (const cut of [...cuts, log.length]) {
          entries.push(...splitter.push(log.subarray(from, from + cut)));
          from += cut;
        }
        assert.deepEqual(
          entries.map(({ ends, data }) => [ends, Buffer.from(data).toString("hex")]),
          lines.map(([ends, data]) => [ends, Buffer.from(data).toString("hex")]),
        );
      },
    ),
  );
});

test("the last lines begin where they begin, also over blocks and parts", async () => {
  const directory = await mkdtemp(join(tmpdir(), "log-tail-"));
  try {
    const line = (tag: string, data: string): string => `${time} stdout ${tag} ${data}\n`;
    const many = Array.from({ length: 3000 }, (_, index) => line("F", `line ${index} ${"x".repeat(60)}`));
    const cases: readonly (readonly [string[], number, number])[] = [
      [[line("F", "a"), line("F", "b"), line("F", "c")], 2, 1],
      [[line("F", "a"), line("P", "b"), line("F", "b"), line("P", "c")], 1, 3],
      [[line("F", "a"), line("P", "b"), line("F", "b"), line("P", "c")], 2, 1],
      [[line("F", "a")], 5, 0],
      [[line("F", "a")], 0, 1],
      [[], 3, 0],
      [many, 2500, 500],
      [many, 3000, 0],
    ];
    for (const [lines, wanted, first] of cases) {
      const path = join(directory, "log");
      await writeFile(path, lines.join(""));
      const file = await open(path);
      try {
        assert.equal(
          await tailOffset(file, wanted),
          lines.slice(0, first).join("").length,
          `${lines.length} ${wanted}`,
        );
      } finally {
        await file.close();
      }
    }
  } finally {
    await rm(directory, { recursive: true });
  }
});
