/**
 * A pool for suites: zfs-fuse started in this mount namespace, with its socket and cache out of the host's sight, and a
 * pool on a file in memory. One at a time in a namespace, as the programs look for one socket: the next suite waits.
 * Everything goes with it, and the process goes with ours, however that ends.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { accessSync, closeSync, existsSync, ftruncateSync, mkdirSync, openSync, readlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { isError } from "../../base/errors.ts";
import { lockFile } from "../../host/lock.ts";
import { mountAll, mountTable, unmountAll } from "../../host/mount.ts";
import { runProgram } from "../../host/program.ts";
import { scratchHome } from "../scratch-home.ts";

const daemon = "/usr/sbin/zfs-fuse";
const folders = ["/run/zfs", "/var/lib/zfs"];
const socket = "/run/zfs/zfs_socket";
const size = 1 << 30;
const patienceMs = 60_000;

/** Why there can be no pool here, or false. */
export function cannotMakePool(): string | false {
  try {
    accessSync(daemon);
    return false;
  } catch {
    return "zfs-fuse is not installed (Debian: apt-get install zfs-fuse)";
  }
}

export type ZfsHome = AsyncDisposable & {
  /** Where `dataset` is mounted. */
  readonly path: string;
  readonly dataset: string;
  /** Ends the process that serves ZFS with SIGKILL, as a crash of the machine would, and starts it again. */
  readonly restart: () => Promise<void>;
};

/** A mounted dataset on a pool of 1 GiB. */
export async function zfsHome(): Promise<ZfsHome> {
  await using stack = new AsyncDisposableStack();
  stack.use(await turn());
  const scratch = stack.use(await scratchHome());
  const disks = join(scratch.path, "disks");
  mkdirSync(disks);
  for (const folder of [...folders, disks]) {
    mkdirSync(folder, { recursive: true });
    mountAll([{ kind: "filesystem", type: "tmpfs", source: "scratch", options: [] }], folder);
    stack.defer(() => unmountAll(folder));
  }
  let child = await serve();
  stack.defer(async () => {
    await end(child);
    unmountServed();
  });
  const disk = join(disks, "disk");
  const fd = openSync(disk, "w");
  ftruncateSync(fd, size);
  closeSync(fd);
  const pool = `strata-${randomBytes(6).toString("hex")}`;
  const [path, dataset] = [join(scratch.path, "pool"), `${pool}/docker`];
  await must("zpool", "create", "-O", "mountpoint=none", pool, disk);
  await must("zfs", "create", "-o", `mountpoint=${path}`, dataset);
  const restart = async (): Promise<void> => {
    await end(child, "SIGKILL");
    unmountServed();
    child = await serve();
    // The pool comes back from the cache file, its datasets unmounted.
    await must("zfs", "mount", dataset);
  };
  const kept = stack.move();
  return { path, dataset, restart, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}

/** Waits for the suite of this namespace that has a pool. */
async function turn(): Promise<AsyncDisposable> {
  const namespace = readlinkSync("/proc/self/ns/mnt").replace(/\D/g, "");
  const path = join(tmpdir(), `strata-zfs-${namespace}.lock`);
  for (;;) {
    try {
      return lockFile(path);
    } catch (error) {
      if (!isError(error, "conflict")) throw error;
    }
    await setTimeout(100);
  }
}

async function serve(): Promise<ChildProcess> {
  const options = ["--no-daemon", "--no-kstat-mount", "--enable-xattr", "--max-arc-size", "64", "-o", "dev,suid"];
  // setpriv becomes zfs-fuse, and dies with this process.
  const child = spawn("setpriv", ["--pdeathsig", "KILL", daemon, ...options], { stdio: "ignore" });
  const until = performance.now() + patienceMs;
  while (!(existsSync(socket) && (await answers()))) {
    if (performance.now() > until || child.exitCode !== null) throw new Error("zfs-fuse does not answer");
    await setTimeout(25);
  }
  return child;
}

const answers = async (): Promise<boolean> =>
  (await runProgram("zpool", ["list", "-H"], { deadline: patienceMs })).code === 0;

/** What was served stays mounted, and answers nothing any more. */
function unmountServed(): void {
  for (const { target } of mountTable()
    .filter(({ type }) => type === "fuse.zfs")
    .toReversed())
    unmountAll(target);
}

async function must(program: string, ...args: string[]): Promise<void> {
  const { code, stderr } = await runProgram(program, args, { deadline: patienceMs });
  if (code !== 0) throw new Error(`${program} ${args.join(" ")}: ${stderr}`);
}

async function end(child: ChildProcess, signal: "SIGTERM" | "SIGKILL" = "SIGTERM"): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, "exit");
  child.kill(signal);
  const late = new AbortController();
  const killer = setTimeout(5000, undefined, { signal: late.signal }).then(
    () => child.kill("SIGKILL"),
    () => undefined,
  );
  await gone;
  late.abort();
  await killer;
}
