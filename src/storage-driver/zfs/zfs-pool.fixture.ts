/**
 * A pool for suites: zfs-fuse started in this mount namespace, with its socket and cache out of the host's sight, and a pool on a file. Everything goes with it.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { accessSync, closeSync, existsSync, ftruncateSync, mkdirSync, openSync } from "node:fs";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { mountAll, mountTable, unmountAll } from "../../host/mount.ts";
import { runProgram } from "../../host/program.ts";
import { scratchHome } from "../scratch-home.ts";

const daemon = "/usr/sbin/zfs-fuse";
const folders = ["/run/zfs", "/var/lib/zfs"];
const socket = "/run/zfs/zfs_socket";
const pool = "strata-suite";

/** Why there can be no pool here, or false. */
export function cannotMakePool(): string | false {
  if (process.env.STRATA_ZFS === undefined)
    return "the zfs driver is under way: STRATA_ZFS=1 runs its suites (zfs-fuse)";
  try {
    accessSync(daemon);
  } catch {
    return "zfs-fuse is not at hand (Debian: apt-get install zfs-fuse)";
  }
  return existsSync(socket) ? "a zfs-fuse of its own is not at hand, as one runs already" : false;
}

/** A mounted dataset on a pool of 1 GiB. */
export async function zfsHome(): Promise<AsyncDisposable & { readonly path: string; readonly dataset: string }> {
  await using stack = new AsyncDisposableStack();
  const scratch = stack.use(await scratchHome());
  for (const folder of folders) {
    mkdirSync(folder, { recursive: true });
    mountAll([{ kind: "filesystem", type: "tmpfs", source: "scratch", options: ["size=1m"] }], folder);
    stack.defer(() => unmountAll(folder));
  }
  const process = spawn(daemon, ["--no-daemon", "--no-kstat-mount", "--enable-xattr", "-o", "dev,suid"], {
    stdio: "ignore",
  });
  stack.defer(() => end(process));
  for (let tries = 0; !existsSync(socket); tries++) {
    if (tries > 200) throw new Error("zfs-fuse did not open its socket");
    await setTimeout(25);
  }
  const disk = join(scratch.path, "disk");
  const fd = openSync(disk, "w");
  ftruncateSync(fd, 1 << 30);
  closeSync(fd);
  const [path, dataset] = [join(scratch.path, "pool"), `${pool}/docker`];
  await must("zpool", "create", "-O", "mountpoint=none", pool, disk);
  stack.defer(async () => {
    for (const { target } of mountTable().filter(({ type }) => type === "fuse.zfs")) unmountAll(target);
    await must("zpool", "destroy", "-f", pool);
  });
  await must("zfs", "create", "-o", `mountpoint=${path}`, dataset);
  const kept = stack.move();
  return { path, dataset, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}

async function must(program: string, ...args: string[]): Promise<void> {
  const { code, stderr } = await runProgram(program, args, { deadline: 30_000 });
  if (code !== 0) throw new Error(`${program} ${args.join(" ")}: ${stderr}`);
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, "exit");
  child.kill("SIGTERM");
  const late = new AbortController();
  const killer = setTimeout(5000, undefined, { signal: late.signal }).then(
    () => child.kill("SIGKILL"),
    () => undefined,
  );
  await gone;
  late.abort();
  await killer;
}
