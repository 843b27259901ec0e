/**
 * A pool for suites, on a file: of the kernel's ZFS where its module is loaded, else of zfs-fuse, which is started for it
 * (see zfs-fuse.fixture.ts). One at a time in a mount namespace: the next suite waits. Everything goes with it.
 */
import { randomBytes } from "node:crypto";
import { closeSync, ftruncateSync, mkdirSync, openSync, readlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { isError } from "../../base/errors.ts";
import { lockFile } from "../../host/lock.ts";
import { runProgram } from "../../host/program.ts";
import { isZfsInKernel } from "../../host/zfs-dataset.ts";
import { scratchHome } from "../scratch-home.ts";
import { isZfsFuseHere, type Served, serveZfs } from "./zfs-fuse.fixture.ts";

const size = 1 << 30;
const patienceMs = 60_000;

const zfsInKernel = isZfsInKernel();

/** What the pools are of, for the names of suites. */
export const zfsName: string = zfsInKernel ? "OpenZFS" : "zfs-fuse";

/** Why there can be no pool here, or false. */
export function cannotMakePool(): string | false {
  return zfsInKernel || isZfsFuseHere() ? false : "zfs-fuse is not installed (Debian: apt-get install zfs-fuse)";
}

export type ZfsHome = AsyncDisposable & {
  /** Where `dataset` is mounted. */
  readonly path: string;
  readonly dataset: string;
  /** Ends the process that serves ZFS with SIGKILL, as a crash of the machine would, and starts it again. Not in a kernel. */
  readonly restart: () => Promise<void>;
};

/** A mounted dataset on a pool of 1 GiB, below `folder`. */
export async function zfsHome(folder?: string): Promise<ZfsHome> {
  await using stack = new AsyncDisposableStack();
  stack.use(await turn());
  const scratch = stack.use(await scratchHome(folder));
  const disks = join(scratch.path, "disks");
  mkdirSync(disks);
  const served = zfsInKernel ? undefined : stack.use(await serveZfs(disks));
  const disk = join(disks, "disk");
  const fd = openSync(disk, "w");
  ftruncateSync(fd, size);
  closeSync(fd);
  const pool = `strata-${randomBytes(6).toString("hex")}`;
  const [path, dataset] = [join(scratch.path, "pool"), `${pool}/docker`];
  await must("zpool", "create", ...(zfsInKernel ? ["-o", "cachefile=none"] : []), "-O", "mountpoint=none", pool, disk);
  if (zfsInKernel) stack.defer(() => must("zpool", "destroy", "-f", pool));
  await must("zfs", "create", "-o", `mountpoint=${path}`, dataset);
  const restart = (): Promise<void> => startAnew(served, dataset);
  const kept = stack.move();
  return { path, dataset, restart, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}

async function startAnew(served: Served | undefined, dataset: string): Promise<void> {
  if (served === undefined) throw new Error("a kernel's ZFS is not started anew");
  await served.restart();
  // The pool comes back from the cache file, its datasets unmounted.
  await must("zfs", "mount", dataset);
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

async function must(program: string, ...args: string[]): Promise<void> {
  const { code, stderr } = await runProgram(program, args, { deadline: patienceMs });
  if (code !== 0) throw new Error(`${program} ${args.join(" ")}: ${stderr}`);
}
