/**
 * The command lines of ZFS: `zfs` and `zpool`, of OpenZFS or of zfs-fuse (which knows neither JSON nor `zfs diff`). Only
 * subcommands and flags that both have are used. Messages are in English, whatever the machine speaks.
 */
import { setTimeout } from "node:timers/promises";
import { EngineError, type ErrorCode, isError } from "../base/errors.ts";
import { runProgram } from "./program.ts";

const deadlineMs = 120_000;
const busyPauseMs = 50;

/** Runs `zfs` or `zpool`; resolves to what it printed. Throws with its last words. */
export async function run(program: "zfs" | "zpool", ...args: readonly string[]): Promise<string> {
  const env = { ...process.env, LC_ALL: "C" };
  const { code, stdout, stderr } = await runProgram(program, args, { deadline: deadlineMs, env });
  if (code === 0) return stdout;
  const said = stderr.trim().split("\n")[0] ?? "";
  const words = `${program} ${args[0]}: ${said === "" ? `ended with code ${code}` : said}`;
  throw new EngineError(codeOf(said), words);
}

/**
 * Destroys a dataset and its snapshots, again while it is in use: what was unmounted is free once the last file of it
 * was closed, and zfs-fuse learns of that later than the caller. Gives up after `patience` milliseconds.
 */
export async function destroyWhenFree(name: string, patience = 60_000): Promise<void> {
  const until = performance.now() + patience;
  for (;;) {
    try {
      await run("zfs", "destroy", "-r", name);
      return;
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
