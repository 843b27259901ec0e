/**
 * zfs-fuse for suites: started in this mount namespace, with its socket, cache and lock out of the host's sight, and with
 * memory to keep pools in. The programs look for one socket, so there is one in a namespace. It goes with whoever asked
 * for it, and with our process, however that ends.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { accessSync, existsSync, mkdirSync } from "node:fs";
import { setTimeout } from "node:timers/promises";
import { mountAll, mountTable, unmountAll } from "../../host/mount.ts";
import { runProgram } from "../../host/program.ts";

const daemon = "/usr/sbin/zfs-fuse";
/** Its socket, its cache of pools, and the lock that lets one of it run. */
const folders = ["/run/zfs", "/var/lib/zfs", "/run/lock/zfs"];
const socket = "/run/zfs/zfs_socket";
const patienceMs = 60_000;

export function isZfsFuseHere(): boolean {
  try {
    accessSync(daemon);
    return true;
  } catch {
    return false;
  }
}

export type Served = AsyncDisposable & {
  /** Ends it with SIGKILL, and starts it again; nothing is mounted then. */
  readonly restart: () => Promise<void>;
};

/** Starts it; the folder `disks` keeps what is put into it in memory. */
export async function serveZfs(disks: string): Promise<Served> {
  await using stack = new AsyncDisposableStack();
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
  const kept = stack.move();
  return {
    async restart() {
      await end(child, "SIGKILL");
      unmountServed();
      child = await serve();
    },
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
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
