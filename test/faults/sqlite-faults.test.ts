/**
 * SQLite's own system calls fail: strace makes call N of a kind on the metadata store's files return an errno, for every
 * N, once or from then on, and the kernel never sees it. What was acknowledged is there afterwards, a transaction is there
 * whole or not at all, SQLite's own check finds nothing, and the store opens and works. `STRATA_FAULTS=all` tries every N.
 */
import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { describe, test } from "node:test";
import { openDatabase } from "../../src/metadata/open.ts";
import { type CommandResult, command, scratchFolder } from "../support/engine.ts";
import { seededRandom } from "../support/random.ts";
import { schema } from "./sqlite-child.ts";

const all = process.env.STRATA_FAULTS === "all";
const seed = Number(process.env.STRATA_SEED ?? Date.now() % 2 ** 31);
const random = seededRandom(seed);
const child = new URL("./sqlite-child.ts", import.meta.url).pathname;
const kinds = ["pwrite64", "fsync", "fdatasync", "ftruncate", "pread64", "openat", "mmap", "fallocate"] as const;
const errnos = ["EIO", "ENOSPC"] as const;

type Fault = { readonly kind: string; readonly errno: string; readonly at: number; readonly onward: boolean };

const filesOf = (path: string): readonly string[] => [path, `${path}-wal`, `${path}-shm`];

/** Runs the child under strace, which fails the call, and keeps what it saw in `trace`. */
function run(path: string, trace: string, fault?: Fault): Promise<CommandResult> {
  const inject =
    fault === undefined
      ? []
      : ["-e", `inject=${fault.kind}:error=${fault.errno}:when=${fault.at}${fault.onward ? "+" : ""}`];
  const paths = filesOf(path).flatMap((file) => ["-P", file]);
  const options = ["-f", "-qq", "-o", trace, ...paths, "-e", `trace=${kinds.join()}`, ...inject];
  return command("strace", [...options, process.execPath, child, path]);
}

const cannot = async (): Promise<string | false> => {
  const tried = await command("strace", ["-f", "-qq", "-e", "trace=none", "true"]).catch(() => undefined);
  return tried?.code === 0 ? false : "strace is not installed, or may not trace here";
};

/** How many calls of each kind one thread made at most. */
function countCalls(trace: string): Map<string, number> {
  const perThread = new Map<string, number>();
  for (const [, thread, kind] of readFileSync(trace, "utf8").matchAll(/^(\d+) +([a-z0-9]+)\(/gm))
    perThread.set(`${kind} ${thread}`, (perThread.get(`${kind} ${thread}`) ?? 0) + 1);
  const most = new Map<string, number>();
  for (const [key, count] of perThread) {
    const kind = key.split(" ")[0] ?? "";
    most.set(kind, Math.max(most.get(kind) ?? 0, count));
  }
  return most;
}

function faultsOf(calls: ReadonlyMap<string, number>): readonly Fault[] {
  const every = [...calls].flatMap(([kind, count]) =>
    Array.from({ length: count }, (_, index) => index + 1).flatMap((at) =>
      errnos.flatMap((errno) => [true, false].map((onward) => ({ kind, errno, at, onward }))),
    ),
  );
  if (all) return every;
  const order = every.map((fault) => ({ fault, at: random() })).sort((a, b) => a.at - b.at);
  return order.slice(0, 8).map(({ fault }) => fault);
}

/** What the store holds, once nothing fails any more; it must take one more transaction. */
async function assertWhole(path: string, said: string): Promise<void> {
  {
    await using database = await openDatabase(path, [schema]);
    await database.transact([{ sql: "INSERT INTO part (name, half, data) VALUES ('late', 1, ''), ('late', 2, '')" }]);
    const rows = database.all("SELECT name, group_concat(half) AS halves FROM part GROUP BY name");
    const halves = new Map(rows.map((row) => [String(row.name), String(row.halves)]));
    for (const [name, present] of halves) assert.match(present, /^(1,2|2,1)$/, `${name} is there in part`);
    for (const [, index] of said.matchAll(/^ok (\d+)$/gm))
      assert.ok(halves.has(`t${index}`), `t${index} was acknowledged, and is gone`);
  }
  const plain = new DatabaseSync(path, { readOnly: true });
  assert.equal(plain.prepare("PRAGMA integrity_check").get()?.integrity_check, "ok");
  plain.close();
}

describe("SQLite's system calls fail", { skip: await cannot() }, () => {
  test(`whatever fails, the metadata store keeps its promises (seed ${seed})`, { timeout: 3_600_000 }, async (t) => {
    using scratch = scratchFolder();
    const trace = join(scratch.path, "trace");
    const first = join(scratch.path, "first.db");
    const clean = await run(first, trace);
    assert.equal(clean.stdout.match(/^ok /gm)?.length, 8, clean.stdout + clean.stderr);
    const calls = countCalls(trace);
    assert.ok((calls.get("pwrite64") ?? 0) > 20 && (calls.get("fsync") ?? 0) > 8, JSON.stringify([...calls]));
    const figures = { faults: 0, injected: 0, told: 0 };
    for (const fault of faultsOf(calls)) {
      const folder = join(scratch.path, `${++figures.faults}`);
      mkdirSync(folder);
      const path = join(folder, "meta.db");
      const { code, stdout, stderr } = await run(path, trace, fault);
      const words = `${JSON.stringify(fault)}\n${stdout}${stderr}`;
      assert.equal(code, 0, `it ends as it should: ${words}`);
      if (readFileSync(trace, "utf8").includes("(INJECTED)")) figures.injected++;
      if (/^(failed|not open)/m.test(stdout)) figures.told++;
      await assertWhole(path, stdout).catch((error: unknown) => {
        throw new Error(words, { cause: error });
      });
    }
    t.diagnostic(
      `${JSON.stringify(figures)}; calls of each kind: ${[...calls].map((pair) => pair.join(" ")).join(", ")}`,
    );
    assert.ok(figures.injected > figures.faults / 2, "calls were failed");
  });
});
