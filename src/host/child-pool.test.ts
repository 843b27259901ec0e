import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { EngineError, isError, systemCode } from "../base/errors.ts";
import { ChildPool, type Lane } from "./child-pool.ts";
import { startHungFuse } from "./hung-fuse.fixture.ts";
import { isMountPoint } from "./mount.ts";
import { detachAsync, MNT_FORCE } from "./mount-calls.ts";
import { runProgram } from "./program.ts";
import { RemoteCalls } from "./remote-calls.ts";
import { isRemoteType, remoteMountOf } from "./remote-path.ts";

const tasks = new URL("./worker-pool.fixture.ts", import.meta.url);
const childTasks = new URL("./child-pool.fixture.ts", import.meta.url);
const lane = (key: string, more: Partial<Lane> = {}): Lane => ({ key, what: `volume ${key}`, quiet: 60_000, ...more });
const skip = process.getuid?.() === 0 && existsSync("/dev/fuse") ? false : "mounting needs root and /dev/fuse";

async function until(what: string, condition: () => boolean): Promise<void> {
  for (let tries = 0; !condition(); tries++) {
    assert.ok(tries < 3000, `waited too long: ${what}`);
    await sleep(10);
  }
}

const isThere = (pid: number): boolean =>
  existsSync(`/proc/${pid}/stat`) && !/^\d+ \(.*\) [ZX]/s.test(readFileSync(`/proc/${pid}/stat`, "latin1"));

describe("the child pool", () => {
  test("a task gets its argument and its bytes, gives its result and its bytes, and its errors keep their codes", async () => {
    await using pool = new ChildPool();
    assert.equal(await pool.of(lane("a")).run(tasks, "add", { a: 2, b: 3 }), 5);
    const source = Buffer.from("abcdefghij".repeat(200_003));
    async function* pieces(): AsyncGenerator<Uint8Array> {
      for (let at = 0; at < source.length; at += 70_001) yield source.subarray(at, at + 70_001);
    }
    const { output, result } = pool.of(lane("a")).stream(tasks, "upper", undefined, { input: pieces() });
    const received: Uint8Array[] = [];
    for await (const chunk of output) received.push(Buffer.from(chunk));
    assert.ok(Buffer.concat(received).equals(Buffer.from(source.toString().toUpperCase())));
    assert.equal(await result, source.length);
    await assert.rejects(pool.of(lane("a")).run(tasks, "fail", "engine"), (error) => isError(error, "conflict"));
    await assert.rejects(pool.of(lane("a")).run(tasks, "fail", "system"), (error) => systemCode(error) === "ENOENT");
  });

  test("a child is used again, whoever asks, and ends when idle", async () => {
    await using pool = new ChildPool({ idleMs: 300 });
    const pid = await pool.of(lane("a")).run<undefined, number>(childTasks, "pid", undefined);
    assert.equal(await pool.of(lane("b")).run(childTasks, "pid", undefined), pid);
    assert.notEqual(pid, process.pid);
    await until("it ended", () => !isThere(pid));
  });

  test("a run is ended at its deadline, one that gives no sign of life before, and neither one that works nor one whose reader is slow", async () => {
    await using pool = new ChildPool();
    await assert.rejects(pool.of(lane("late", { deadline: 700 })).run(childTasks, "workFor", 60_000), {
      code: "deadline_exceeded",
      message: "volume late did not answer within 0.7 s",
    });
    await assert.rejects(pool.of(lane("quiet", { quiet: 700 })).run(childTasks, "sleepFor", 60_000), {
      code: "deadline_exceeded",
    });
    const busy = pool.of(lane("busy", { quiet: 1500 })).run(childTasks, "workFor", 4000);
    const slow = pool.of(lane("slow", { quiet: 1500 })).stream(tasks, "produce", { size: 65536, count: 100 });
    await sleep(4000);
    let bytes = 0;
    for await (const chunk of slow.output) bytes += chunk.length;
    assert.deepEqual([await busy, await slow.result, bytes], [4000, 100, 6_553_600]);
    await until("every overdue child ended", () => pool.abandoned === 0);
  });

  test("an abort ends a run that does not notice, and one that waits", async () => {
    await using pool = new ChildPool({ perLane: 1 });
    const abort = new AbortController();
    const { signal } = abort;
    const asleep = pool.of(lane("a")).run(childTasks, "sleepFor", 60_000, { signal });
    const waiting = pool.of(lane("a")).run(tasks, "add", { a: 1, b: 1 }, { signal });
    await sleep(300);
    const reason = new EngineError("canceled", "no longer wanted");
    abort.abort(reason);
    await Promise.all([asleep, waiting].map((one) => assert.rejects(one, (error) => error === reason)));
    assert.equal(await pool.of(lane("a")).run(tasks, "add", { a: 1, b: 1 }), 2);
  });

  test("children end with their process, also when that is killed", async () => {
    const program = `const { ChildPool } = await import(${JSON.stringify(new URL("child-pool.ts", import.meta.url).href)});
      const pool = new ChildPool().of({ key: "a", what: "a", quiet: 60000 });
      console.log(await pool.run(new URL(${JSON.stringify(childTasks.href)}), "pid"));
      await pool.run(new URL(${JSON.stringify(childTasks.href)}), "sleepFor", 60000);`;
    const parent = spawn(process.execPath, ["--input-type=module", "-e", program], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const [said] = await once(parent.stdout, "data");
    const pid = Number(String(said));
    assert.ok(isThere(pid));
    parent.kill("SIGKILL");
    await until("the child ended", () => !isThere(pid));
  });

  test("dispose ends what runs, and refuses more", async () => {
    const pool = new ChildPool();
    const running = pool.of(lane("a")).run(childTasks, "sleepFor", 60_000);
    await sleep(200);
    await Promise.all([assert.rejects(running, { code: "unavailable" }), pool[Symbol.asyncDispose]()]);
    await assert.rejects(pool.of(lane("a")).run(tasks, "add", { a: 1, b: 1 }), { code: "unavailable" });
  });
});

describe("paths that may hang", { skip }, () => {
  test("are those that lead through a mount of another server, also by links; nothing on them is touched", async () => {
    await using stack = new AsyncDisposableStack();
    const root = mkdtempSync(join(tmpdir(), "hung-"));
    stack.defer(() => rmSync(root, { recursive: true }));
    const fuse = stack.use(await startHungFuse());
    const target = join(root, "mnt");
    mkdirSync(join(root, "plain"));
    mkdirSync(target);
    symlinkSync("../mnt/inside", join(root, "plain/relative"));
    symlinkSync(target, join(root, "absolute"));
    symlinkSync("loop", join(root, "loop"));
    assert.equal(remoteMountOf(target), undefined);
    await fuse.mount(target);
    stack.defer(() => detachAsync(target, MNT_FORCE).then(() => undefined));
    for (const path of ["mnt", "mnt/a/b", "plain/../mnt", "plain/relative/c", "absolute", "absolute/x"])
      assert.equal(remoteMountOf(join(root, path))?.target, target, path);
    for (const path of ["", "plain", "plain/mnt", "mntx", "loop", "loop/x", "nothing/at/all"])
      assert.equal(remoteMountOf(join(root, path)), undefined, path);
    for (const type of ["nfs4", "cifs", "fuse", "fuse.sshfs", "fuseblk", "ceph", "9p", "virtiofs", "autofs"])
      assert.ok(isRemoteType(type), type);
    for (const type of ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs"]) assert.ok(!isRemoteType(type), type);
  });
});

describe("a server that never answers", { skip }, () => {
  test("costs its lane the children that wait for it, and nobody else anything", async () => {
    await using stack = new AsyncDisposableStack();
    const root = mkdtempSync(join(tmpdir(), "hung-"));
    stack.defer(() => rmSync(root, { recursive: true }));
    const fuse = stack.use(await startHungFuse());
    const target = join(root, "mnt");
    mkdirSync(target);
    await fuse.mount(target);
    stack.defer(() => new RemoteCalls().detach(target, { deadline: 500, what: "it" }));
    const pool = stack.use(new ChildPool());
    const hung = pool.of(lane("hung", { quiet: 1000 }));
    const tries = await Promise.allSettled([1, 2, 3].map(() => hung.run(childTasks, "statSync", target)));
    for (const each of tries) assert.ok(each.status === "rejected" && isError(each.reason, "deadline_exceeded"));
    assert.equal(pool.abandoned, 3, "no signal ends them");
    await assert.rejects(hung.run(childTasks, "statSync", target), {
      code: "unavailable",
      message: "volume hung does not answer: 3 processes wait for it already",
    });
    assert.equal(await pool.of(lane("well")).run(childTasks, "statSync", root), true);
    await fuse.wake();
    await until("the kernel let go of them", () => pool.abandoned === 0);
    assert.equal(await hung.run(childTasks, "statSync", target), true);
  });

  test("is known by a look, answers it in the end, and is unmounted by force while it hangs", async () => {
    await using stack = new AsyncDisposableStack();
    const root = mkdtempSync(join(tmpdir(), "hung-"));
    stack.defer(() => rmSync(root, { recursive: true }));
    const fuse = stack.use(await startHungFuse());
    const calls = stack.use(new RemoteCalls());
    const patience = { deadline: 1000, what: "volume v" };
    const targets = ["one", "two"].map((name) => join(root, name));
    for (const target of targets) {
      mkdirSync(target);
      await fuse.mount(target);
    }
    const [one = "", two = ""] = targets;
    const late = { code: "deadline_exceeded", message: "volume v did not answer within 1 s" };
    await Promise.all(targets.map((target) => assert.rejects(calls.look(target, patience), late)));
    assert.equal(await calls.look(root, patience), true);
    const answered = calls.answered(one);
    const ended = calls.answered(two);
    await calls.detach(two, patience);
    assert.ok(!isMountPoint(two));
    await assert.rejects(runProgram("stat", [one], { deadline: 300 }), { code: "deadline_exceeded" });
    await assert.rejects(ended, (error) => systemCode(error) === "ECONNABORTED" || systemCode(error) === "ENOTCONN");
    await fuse.wake();
    assert.equal(await answered, true);
    assert.equal(await calls.look(one, patience), true);
    await calls.detach(one, patience);
    assert.ok(!isMountPoint(one));
    await assert.rejects(calls.look(join(root, "nothing"), patience), (error) => systemCode(error) === "ENOENT");
  });
});
