/**
 * The command lines of ZFS: `zfs` and `zpool`, of OpenZFS or of zfs-fuse (which knows neither JSON nor `zfs diff`). Only
 * subcommands and flags that both have are used. Messages are in English, whatever the machine speaks.
 */
import { existsSync } from "node:fs";
import { setTimeout } from "node:timers/promises";
import { EngineError, type ErrorCode, isError } from "../base/errors.ts";
import { NameLocks } from "./name-locks.ts";
import { type ProgramOptions, type ProgramResult, runProgram } from "./program.ts";
import { isZfsInKernel } from "./zfs-dataset.ts";

const deadlineMs = 120_000;
const busyPauseMs = 50;
/** Subcommands that mount, or may. */
const mounting: ReadonlySet<string> = new Set(["create", "clone", "mount"]);
const turns = new NameLocks();
/** Where zfs-fuse has its socket. */
const socketFolder = "/run/zfs";

/** Runs `zfs` or `zpool`; resolves to what it printed. Throws with its last words. */
export async function run(program: "zfs" | "zpool", ...args: readonly string[]): Promise<string> {
  const env = { ...process.env, LC_ALL: "C" };
  const { code, stdout, stderr } = await inTurn([program, ...args], { deadline: deadlineMs, env });
  if (code === 0) return stdout;
  const said = stderr.trim().split("\n")[0] ?? "";
  const words = `${program} ${args[0]}: ${said === "" ? `ended with code ${code}` : said}`;
  throw new EngineError(codeOf(said), words);
}

/**
 * zfs-fuse mixes up what it is told to mount at once, by whomever, and then never serves any of it: one at a time mounts.
 * flock(1) holds the turn for as long as the command runs, also when this process is killed meanwhile.
 */
async function inTurn(
  [file, ...args]: readonly [string, ...string[]],
  options: ProgramOptions,
): Promise<ProgramResult> {
  if (!mounting.has(args[0] ?? "") || isZfsInKernel()) return runProgram(file, args, options);
  return turns.run("zfs-fuse", () =>
    existsSync(socketFolder)
      ? runProgram("flock", [socketFolder, file, ...args], options)
      : runProgram(file, args, options),
  );
}

/** Destroys a dataset and its snapshots, as {@link whenFree}. */
export async function destroyWhenFree(name: string, patience = 60_000): Promise<void> {
  await whenFree(() => run("zfs", "destroy", "-r", name), patience);
}

/**
 * Runs `work` again while its dataset is in use: what was unmounted is free once the last file of it was closed, and
 * zfs-fuse learns of that later than the caller. Gives up after `patience` milliseconds.
 */
export async function whenFree<T>(work: () => Promise<T>, patience: number): Promise<T> {
  const until = performance.now() + patience;
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (!isError(error, "conflict") || hasClones(error) || performance.now() > until) throw error;
    }
    await setTimeout(busyPauseMs);
  }
}

/** Whether what failed is kept by clones of it. */
const hasClones = (error: Error): boolean => error.message.includes("dependent clones");

function codeOf(said: string): ErrorCode {
  if (/does not exist/.test(said)) return "not_found";
  if (/busy|umount|has (dependent clones|children)/.test(said)) return "conflict";
  if (/out of space/.test(said)) return "no_space";
  return "internal";
}
