/**
 * Space that is there on a full disk. What frees space has to write first (a record, a pid, a folder), so some is kept: blocks
 * that belong to a file before anything stands in it, and a file of nothing that makes way for the start of an engine.
 *
 * All of it is a help and no promise: where a filesystem cannot, or has no room, nothing is kept and nobody is told.
 */
import { type FileHandle, open, rm, statfs } from "node:fs/promises";
import { dirname } from "node:path";
import { nativeAsync } from "./libc.ts";

const fallocate = nativeAsync("int fallocate(int, int, int64_t, int64_t)");
const KEEP_SIZE = 1;

/** Lets an existing file grow to `size` bytes without asking the filesystem for more; its length stays. */
export async function reserveFor(path: string, size: number): Promise<boolean> {
  return allocate(path, "r+", [KEEP_SIZE, size]);
}

/** What an engine's start may take: folders, the trial of a driver, the database's journal. */
const reserveSize = 8 << 20;

/** Space below a folder for the time when nothing else is left there. */
export class Reserve {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  /** Gives the space away where there is too little. */
  async open(): Promise<void> {
    if ((await roomAt(this.#path)) < reserveSize) await rm(this.#path, { force: true });
  }

  /** Takes it again, when there is far more than it needs. */
  async fill(): Promise<void> {
    if ((await roomAt(this.#path)) < 8 * reserveSize) return;
    if (!(await allocate(this.#path, "a", [0, reserveSize]))) await rm(this.#path, { force: true });
  }
}

async function roomAt(path: string): Promise<number> {
  const { bavail, bsize } = await statfs(dirname(path));
  return bavail * bsize;
}

async function allocate(path: string, flags: string, [mode, size]: readonly [number, number]): Promise<boolean> {
  let file: FileHandle;
  try {
    file = await open(path, flags, 0o600);
  } catch {
    return false;
  }
  try {
    return (await fallocate(file.fd, mode, 0n, BigInt(size))).result === 0;
  } finally {
    await file.close();
  }
}
