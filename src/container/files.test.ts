import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { mkdir, readFile, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import {
  addBusybox,
  assertClean,
  createShell,
  type Engine,
  makeFolder,
  openEngine,
  runShell,
} from "../../test/support/scratch-engine.ts";
import { until } from "../../test/support/until.ts";
import { isError } from "../base/errors.ts";

let folder: Awaited<ReturnType<typeof makeFolder>>;
let engine: Engine;

before(async () => {
  folder = await makeFolder();
  engine = await openEngine(folder.path);
  await addBusybox(engine);
});

after(async () => {
  try {
    await assertClean(engine);
  } finally {
    await engine[Symbol.asyncDispose]();
    await folder[Symbol.asyncDispose]();
  }
});

/** A tar by GNU tar of files in a fresh folder. */
async function tarOf(files: Readonly<Record<string, string>>): Promise<AsyncIterable<Uint8Array>> {
  const directory = join(folder.path, `tar-${Object.keys(files).join("-").replaceAll("/", "_")}`);
  await mkdir(directory, { recursive: true });
  for (const [name, text] of Object.entries(files)) await writeFile(join(directory, name), text);
  return packWith("-C", directory, "-c", ".");
}

/** What GNU tar writes. Kept whole: a child's output that nobody reads yet is thrown away when it exits. */
async function packWith(...args: readonly string[]): Promise<AsyncIterable<Uint8Array>> {
  const { stdout } = await promisify(execFile)("tar", args, { encoding: "buffer" });
  return Readable.from([stdout]);
}

/** Names of a tar, by GNU tar. */
async function namesIn(tar: AsyncIterable<Uint8Array>): Promise<string[]> {
  const program = spawn("tar", ["-t"]);
  Readable.from(tar).pipe(program.stdin);
  let text = "";
  for await (const chunk of program.stdout) text += String(chunk);
  return text
    .split("\n")
    .filter((line) => line !== "")
    .sort();
}

const options = { noOverwriteDirNonDir: false, copyOwner: false };

for (const running of [false, true])
  test(`cp in and out of a ${running ? "running" : "stopped"} container, also in its volume`, async () => {
    const { containers } = engine;
    const hostConfig = { Binds: [`vol-${running}:/v`] };
    const id = await createShell(engine, "sleep 100", { hostConfig });
    if (running) await containers.start(id);
    await containers.writeArchive(id, "/tmp", await tarOf({ a: "in the root\n" }), options);
    await containers.writeArchive(id, "/v/", await tarOf({ b: "in the volume\n" }), options);
    const { mountpoint } = await engine.volumes.get(`vol-${running}`);
    assert.equal(await readFile(join(mountpoint, "b"), "utf8"), "in the volume\n");
    const { stat, tar } = await containers.readArchive(id, "/v/b");
    assert.deepEqual([stat.name, stat.size, stat.linkTarget], ["b", 14, ""]);
    assert.deepEqual(await namesIn(tar), ["b"]);
    const directory = await containers.readArchive(id, "/data/.");
    assert.equal(directory.stat.name, ".");
    assert.ok(directory.stat.mode >= 2 ** 31, "a directory in Go's mode bits");
    assert.deepEqual(await namesIn(directory.tar), ["./", "./sub/", "./sub/file"]);
    const link = await containers.statPath(id, "/bin/sh");
    assert.deepEqual([link.name, link.linkTarget], ["sh", "/bin/busybox"]);
    const text = running ? await execText(id, "cat /tmp/a") : "in the root\n";
    assert.equal(text, "in the root\n");
    await containers.remove(id, { force: true, volumes: false });
  });

async function execText(id: string, script: string): Promise<string> {
  const file = `/tmp/out-${Math.random()}`;
  const { containers } = engine;
  const exec = await containers.createExec(id, {
    command: ["sh", "-c", `(${script}) > ${file}`],
    env: [],
    user: undefined,
    workingDir: undefined,
    tty: false,
    attachStdin: false,
    attachStdout: false,
    attachStderr: false,
    privileged: false,
    detachKeys: undefined,
  });
  await containers.startExec(exec, { attached: false, tty: false });
  while (containers.getExec(exec).exitCode === undefined) await new Promise((resolve) => setTimeout(resolve, 20));
  const { tar } = await containers.readArchive(id, file);
  const program = spawn("tar", ["-xO"]);
  Readable.from(tar).pipe(program.stdin);
  let text = "";
  for await (const chunk of program.stdout) text += String(chunk);
  return text;
}

test("cp's refusals are Docker's", async () => {
  const { containers } = engine;
  const id = await createShell(engine, "true", { name: "cp", hostConfig: { Binds: ["ro-vol:/ro:ro"] } });
  await assert.rejects(containers.statPath("cp", "/none"), {
    code: "not_found",
    message: "Could not find the file /none in container cp",
  });
  await assert.rejects(containers.readArchive("cp", "/etc/passwd/x"), { code: "not_found" });
  const write = async (name: string, path: string): Promise<void> =>
    containers.writeArchive(name, path, await tarOf({ a: "x" }), options);
  await assert.rejects(write("cp", "/none"), {
    code: "not_found",
    message: "Could not find the file /none in container cp",
  });
  await assert.rejects(write("cp", "/etc/passwd"), {
    code: "invalid_argument",
    message: "extraction point is not a directory",
  });
  await assert.rejects(write(id, "/ro"), { code: "forbidden", message: "mounted volume is marked read-only" });
  await createShell(engine, "true", { name: "cp-ro", hostConfig: { ReadonlyRootfs: true, Binds: ["rw-vol:/rw"] } });
  await assert.rejects(write("cp-ro", "/tmp"), { code: "forbidden", message: "container rootfs is marked read-only" });
  await write("cp-ro", "/rw");
});

test("CVE-2018-15664: links inside a container lead nowhere else, stopped or running", async () => {
  const outside = join(folder.path, "outside");
  await mkdir(outside);
  await writeFile(join(outside, "secret"), "of the host\n");
  const { containers } = engine;
  const script = `ln -s ${outside} /out; ln -s /../../../../../..${outside} /up; ln -s / /root-link; exec sleep 100`;
  const id = await createShell(engine, script);
  await containers.start(id);
  await new Promise((resolve) => setTimeout(resolve, 300));
  const check = async (): Promise<void> => {
    for (const path of ["/out/secret", "/up/secret", `/root-link${outside}/secret`])
      await assert.rejects(containers.readArchive(id, path), (error: unknown) => isError(error, "not_found"));
    await assert.rejects(containers.writeArchive(id, "/out", await tarOf({ evil: "x" }), options), {
      code: "not_found",
    });
    await assert.rejects(readFile(join(outside, "evil")), { code: "ENOENT" });
    assert.equal((await containers.statPath(id, "/root-link/etc/passwd")).name, "passwd");
  };
  await check();
  await containers.kill(id, "KILL");
  await check();
});

test("a tar with a path that climbs is kept inside", async () => {
  const id = await createShell(engine, "true");
  const inner = join(folder.path, "climb/inner");
  await mkdir(inner, { recursive: true });
  await writeFile(join(folder.path, "climb/evil"), "x");
  await symlink(folder.path, join(inner, "link"));
  const tar = await packWith("-P", "-C", inner, "-c", "../evil", "link");
  await engine.containers.writeArchive(id, "/tmp", tar, options).catch((error: unknown) => {
    assert.ok(isError(error, "invalid_argument"), String(error));
  });
  await assert.rejects(readFile(join(folder.path, "evil")), { code: "ENOENT" });
});

test("changes, size and export show what the container did and nothing of the engine", async () => {
  const { id } = await runShell(engine, "echo hello > /test.txt; echo x >> /etc/config.conf; rm /data/sub/file");
  assert.deepEqual(await engine.containers.changes(id), [
    { path: "/data", kind: 0 },
    { path: "/data/sub", kind: 0 },
    { path: "/data/sub/file", kind: 2 },
    { path: "/etc", kind: 0 },
    { path: "/etc/config.conf", kind: 0 },
    { path: "/test.txt", kind: 1 },
  ]);
  const size = await engine.containers.size(id);
  assert.equal(size.rw, 6 + "as it was\nx\n".length);
  assert.equal(size.rootFs, size.rw + engine.images.get("busybox").size);
  const names = await namesIn(engine.containers.export(id));
  assert.ok(names.includes("test.txt") && names.includes("etc/config.conf") && !names.includes("data/sub/file"));
});

test("commit makes a layer, keeps the config, and an unchanged container adds an empty layer", async () => {
  const { containers, images } = engine;
  const { id } = await runShell(engine, "echo new > /new; rm /etc/config.conf");
  const commit = { author: "me", comment: "why", pause: true, config: undefined };
  const image = await containers.commit(id, {
    ...commit,
    reference: "made:1",
    changes: ['CMD ["cat", "/new"]', "LABEL a=b"],
  });
  const made = images.get("made:1");
  assert.equal(made.id, image);
  assert.equal(made.diffIds.length, 2);
  assert.deepEqual(made.config.config?.Cmd, ["cat", "/new"]);
  assert.deepEqual(made.config.config?.Labels, { a: "b" });
  assert.deepEqual([made.config.author, made.config.history?.at(-1)?.comment], ["me", "why"]);
  const again = await runShell(engine, "cat /new; ls /etc/config.conf", { config: { Image: "made:1" } });
  assert.deepEqual([again.stdout, again.exitCode], ["new\n", 1]);
  const idle = await createShell(engine, "true", { config: { Image: "made:1" } });
  await containers.commit(idle, { ...commit, reference: "made:2", changes: [] });
  const empty = images.get("made:2");
  assert.equal(empty.diffIds.length, 2);
  assert.equal(empty.config.history?.at(-1)?.empty_layer, true);
});

test("a commit of a running container pauses it and lets it go on", async () => {
  const { containers } = engine;
  const id = await createShell(engine, "echo x > /f; sleep 100");
  await containers.start(id);
  await new Promise((resolve) => setTimeout(resolve, 200));
  const actions: string[] = [];
  const end = engine.events.subscribe(({ action }) => actions.push(action));
  const nothing = { reference: undefined, author: "", comment: "", config: undefined, changes: [] };
  await containers.commit(id, { ...nothing, pause: true });
  end();
  assert.deepEqual(actions, ["pause", "unpause", "commit"]);
  assert.equal(containers.get(id).state.status, "running");
});

/** A tar whose second half comes when `between` is done. */
async function* halves(tar: AsyncIterable<Uint8Array>, between: () => Promise<void>): AsyncGenerator<Uint8Array> {
  const whole = Buffer.concat(await Array.fromAsync(tar));
  const cut = whole.indexOf("./folder/two");
  assert.ok(cut > 0);
  yield whole.subarray(0, cut);
  await between();
  yield whole.subarray(cut);
}

test("a container that is removed while a tar is copied into it was none, as dockerd says", async () => {
  const { containers, layers, folder } = engine;
  const id = await createShell(engine, "true");
  const directory = join(folder, "removed-meanwhile");
  await mkdir(join(directory, "folder"), { recursive: true });
  for (const name of ["one", "two"]) await writeFile(join(directory, "folder", name), name);
  const tar = await packWith("-C", directory, "-c", "./folder", "./folder/one", "./folder/two");
  const upper = layers.describeWritable(id).UpperDir ?? "";
  const removed = async (): Promise<void> => {
    await until("the first half is there", () => existsSync(join(upper, "tmp/folder/one")));
    await containers.remove(id, { force: false, volumes: false });
    const trash = join(folder, "root/overlay2/trash");
    await until("what was removed is deleted", () => readdirSync(trash).length === 0);
  };
  const gone = { code: "not_found", message: `No such container: ${id}` };
  await assert.rejects(containers.writeArchive(id, "/tmp", halves(tar, removed), options), gone);
});
