/**
 * A copy of changes and what unpacking their tar makes are one and the same: tree, digest, recipe and facts, for random
 * changes on a real overlay. Set STRATA_SEED to repeat a run.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { closeSync, mkdirSync, openSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { isError } from "../base/errors.ts";
import { createPool } from "../host/worker-pool.ts";
import { OpenFiles, openFilesMemory } from "./open-files.ts";
import { changeTree, randomOf } from "./random-changes.fixture.ts";
import { archiveTasks } from "./task-url.ts";
import { type UnpackDiffArgument, type UnpackedDiff, unpackDiffTask } from "./tasks.ts";
import { collect, describeTree, scratch, stream } from "./tree.fixture.ts";
import { TreeCopy } from "./tree-copy.ts";
import { TarWriter } from "./write-tar.ts";

const opaque = { attribute: "trusted.overlay.opaque", value: "y" };
const escapeXattrs = { from: "trusted.overlay.", to: "trusted.overlay.overlay." };
const seed = Number(process.env.STRATA_SEED ?? Date.now() % 2 ** 31);

/** Random changes over a random lower tree, as overlayfs keeps them. */
function randomUpper(root: string, round: number): { readonly upper: string; readonly lowerView: string } {
  const random = randomOf(seed + round);
  const [lower, upper, work, merged] = ["lower", "upper", "work", "merged"].map((name) => {
    mkdirSync(join(root, name), { recursive: true });
    return join(root, name);
  }) as [string, string, string, string];
  changeTree(lower, random, 40);
  execFileSync("find", [lower, "-depth", "-name", ".wh.*", "-exec", "rm", "-rf", "{}", "+"]);
  const options = `lowerdir=${lower},upperdir=${upper},workdir=${work}`;
  execFileSync("mount", ["-t", "overlay", "overlay", "-o", options, merged]);
  try {
    changeTree(merged, random, 60);
    execFileSync("find", [merged, "-depth", "-name", ".wh.*", "-exec", "rm", "-rf", "{}", "+"]);
    // More than one block of output.
    writeFileSync(join(merged, "large"), Buffer.alloc(700_000 + random(100_000), "large "));
  } finally {
    execFileSync("umount", [merged]);
  }
  return { upper, lowerView: lower };
}

/** Whiteouts are of the moment, as is a root that no entry describes. */
const lookOf = (root: string): Readonly<Record<string, string>> =>
  Object.fromEntries(
    Object.entries(describeTree(root)).map(([path, line]) => [
      path,
      path === "" || line.startsWith("20000 ") ? line.replace(/mtime=\d+/, "") : line,
    ]),
  );

test(`copied changes are what their tar unpacks to (seed ${seed})`, async () => {
  await using pool = createPool();
  for (let round = 0; round < 12; round++) {
    using directory = scratch();
    const changes = randomUpper(directory.path, round);
    for (const name of ["unpacked", "copied"]) mkdirSync(directory.sub(name));
    const [unpacked, copied] = [directory.sub("unpacked"), directory.sub("copied")];
    const run = (argument: UnpackDiffArgument, input: AsyncIterable<Uint8Array>): Promise<UnpackedDiff> =>
      pool.run(archiveTasks, "unpackDiffTask", argument, { input });
    const tar = await collect(pool.stream(archiveTasks, "overlayChangesTarTask", changes).output);
    const common = { opaque, escapeXattrs };
    const one = await run({ ...common, root: unpacked, recipePath: directory.sub("r1") }, stream(tar));
    // With and without files that the other end may fill.
    const openFiles = round % 3 === 0 ? undefined : openFilesMemory();
    const copying = { ...changes, escapeXattrs, target: copied, openFiles };
    const { output, result } = pool.stream(archiveTasks, "copyChangesTask", copying);
    const other = await run(
      { ...common, root: copied, recipePath: directory.sub("r2"), copied: openFiles ?? openFilesMemory() },
      output,
    );
    await result;
    assert.equal(openFiles === undefined ? 0 : new OpenFiles(openFiles).closeLeft(), 0);
    assert.deepEqual(other, one);
    assert.deepEqual(lookOf(copied), lookOf(unpacked));
    assert.ok(readFileSync(directory.sub("r1")).equals(readFileSync(directory.sub("r2"))));
  }
});

for (const offered of [false, true])
  test(`what cannot be copied is told by its name, by ${offered ? "the tar's reader" : "who copies, and the reader hears of it"}`, async () => {
    using directory = scratch();
    await using pool = createPool();
    for (const name of ["upper", "lower", "full"]) mkdirSync(directory.sub(name));
    writeFileSync(directory.sub("upper/large"), Buffer.alloc(2_000_000));
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", directory.sub("full")]);
    try {
      const [target, copied] = [directory.sub("full"), openFilesMemory()];
      const changes = { upper: directory.sub("upper"), lowerView: directory.sub("lower"), target };
      const copying = offered ? { ...changes, openFiles: copied } : changes;
      const { output, result } = pool.stream(archiveTasks, "copyChangesTask", copying);
      const argument = { root: target, opaque, recipePath: directory.sub("recipe"), copied };
      const full = (error: unknown): boolean =>
        isError(error, "no_space") && /cannot unpack "large"/.test(error.message);
      await assert.rejects(pool.run(archiveTasks, "unpackDiffTask", argument, { input: output }), full);
      if (!offered) await assert.rejects(result, full);
      await result.catch(() => undefined);
      assert.equal(new OpenFiles(copied).closeLeft(), 0);
      assert.ok(!readdirSync("/proc/self/fd").some((fd) => linkOf(fd).startsWith(target)));
    } finally {
      execFileSync("umount", [directory.sub("full")]);
    }
  });

const linkOf = (fd: string): string => {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return "";
  }
};

test("files are taken by the entries that they were made for, or by nobody, and what is left is closed", () => {
  using directory = scratch();
  const memory = openFilesMemory();
  const [maker, taker] = [new OpenFiles(memory), new OpenFiles(memory)];
  const open = (): number => openSync(directory.sub("file"), "w");
  const first = open();
  assert.ok(maker.offer("a", first));
  maker.skip();
  assert.ok(maker.offer("c", open()));
  assert.deepEqual([taker.take("a"), taker.take("b")], [first, undefined]);
  assert.throws(() => taker.take("not c"), /another file was made for it/);
  closeSync(first);
  // The taker stands still: what it does not take in time is the maker's.
  let offered = 0;
  for (let entry = 0; entry < 2000; entry++) {
    const fd = open();
    if (maker.offer(`${entry}`, fd)) offered++;
    else closeSync(fd);
  }
  assert.ok(offered > 100 && offered < 600, `${offered}`);
  assert.equal(new OpenFiles(memory).closeLeft(), offered + 1);
  assert.ok(!readdirSync("/proc/self/fd").some((fd) => linkOf(fd).startsWith(directory.path)));
});

test("a file that shrinks is filled with zeros; a directory that is not in the tar is made, and noted", async () => {
  using directory = scratch();
  for (const name of ["copied", "unpacked"]) mkdirSync(directory.sub(name));
  using copy = new TreeCopy(directory.sub("copied"), {});
  const entry = { path: "implied/file", type: "file", mode: 0o100640, uid: 1, gid: 2, size: 5, mtime: 7 } as const;
  using file = copy.file(entry);
  file?.write(Buffer.from("ab"));
  file?.finish();
  const parts: Uint8Array[] = [];
  const tar = new TarWriter(async (chunk) => void parts.push(chunk));
  await tar.add(entry, Buffer.from("ab\0\0\0"));
  await tar.finish();
  const take = (root: string, copied: { readonly copied?: SharedArrayBuffer }): Promise<UnpackedDiff> => {
    const argument = { root: directory.sub(root), opaque, recipePath: directory.sub("recipe"), ...copied };
    const context = { input: stream(Buffer.concat(parts)), write: async () => undefined };
    return unpackDiffTask(argument, { ...context, signal: new AbortController().signal });
  };
  const taken = [await take("copied", { copied: openFilesMemory() }), await take("unpacked", {})];
  assert.deepEqual(taken[0], taken[1]);
  const looks = ["copied", "unpacked"].map((name) => describeTree(directory.sub(name), { directoryTimes: false }));
  assert.deepEqual(looks[0], looks[1]);
});
