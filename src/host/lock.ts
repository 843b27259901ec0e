/**
 * A file that one process holds, with its pid inside. The lock is the kernel's (flock), so it goes with the process
 * however that ends, and a file that is left over locks nothing. Programs that are started do not inherit it.
 */
import { fstatSync, ftruncateSync, readFileSync, statSync, unlinkSync, writeSync } from "node:fs";
import { EngineError, systemCode } from "../base/errors.ts";
import { check, native } from "./libc.ts";
import { AT_FDCWD, closeFd, O, openat2 } from "./sys.ts";

const flock = native("int flock(int, int)");
const LOCK_SH = 1;
const LOCK_EX = 2;
const LOCK_NB = 4;

/** Takes the lock at `path`, or throws conflict that names the holder's pid. Dispose releases it and removes the file. */
export function lockFile(path: string): AsyncDisposable {
  for (;;) {
    const fd = openat2(AT_FDCWD, path, { flags: O.RDWR | O.CREAT, mode: 0o644 });
    try {
      take(fd, path);
      // The holder before removed the file between our open and our lock: that lock is worth nothing.
      if (!isSameFile(fd, path)) {
        closeFd(fd);
        continue;
      }
      ftruncateSync(fd, 0);
      writeSync(fd, `${process.pid}\n`, 0);
      return heldLock(fd, path);
    } catch (error) {
      closeFd(fd);
      throw error;
    }
  }
}

/**
 * Shares the lock of a file that somebody else writes under an exclusive one, so that nobody does for now. Changes
 * nothing: the file is opened for reading. Throws conflict while it is held.
 */
export function shareLock(path: string): Disposable {
  const fd = openat2(AT_FDCWD, path, { flags: O.RDONLY | O.NONBLOCK });
  try {
    check(flock(fd, LOCK_SH | LOCK_NB), "flock", path);
  } catch (error) {
    closeFd(fd);
    if (systemCode(error) !== "EAGAIN") throw error;
    throw new EngineError("conflict", `${path} is in use by another process`, { cause: error });
  }
  let held = true;
  return {
    [Symbol.dispose](): void {
      if (held) closeFd(fd);
      held = false;
    },
  };
}

function take(fd: number, path: string): void {
  try {
    check(flock(fd, LOCK_EX | LOCK_NB), "flock", path);
  } catch (error) {
    if (systemCode(error) !== "EAGAIN") throw error;
    const pid = readFileSync(fd, "utf8").trim();
    const holder = /^\d+$/.test(pid) ? `process ${pid}` : "another process";
    throw new EngineError("conflict", `${path} is held by ${holder}; stop it first`, { cause: error });
  }
}

function isSameFile(fd: number, path: string): boolean {
  const ours = fstatSync(fd, { bigint: true });
  const theirs = statSync(path, { bigint: true, throwIfNoEntry: false });
  return theirs !== undefined && ours.ino === theirs.ino && ours.dev === theirs.dev;
}

function heldLock(fd: number, path: string): AsyncDisposable {
  let held = true;
  return {
    async [Symbol.asyncDispose](): Promise<void> {
      if (!held) return;
      held = false;
      // While the lock is still ours, so that nobody else's file is removed.
      if (isSameFile(fd, path)) unlinkSync(path);
      closeFd(fd);
    },
  };
}
