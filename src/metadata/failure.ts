/** What a failure of SQLite means in the engine's codes (sqlite.org/rescode.html). */
import { statfsSync } from "node:fs";
import { dirname } from "node:path";
import { EngineError, type ErrorCode, errorCode, errorMessage } from "../base/errors.ts";
import type { Failure } from "./messages.ts";

/** Primary result codes: the low byte of an extended one. */
const constraint = 19;
const full = 13;
const ioError = 10;
const corrupt = 11;
const notDatabase = 26;

/** `path` names the database, to tell a full filesystem from a failing one. */
export function failureOf(error: unknown, path: string): Failure {
  const cause = causeOf(error);
  if (error instanceof EngineError) return { code: error.code, message: error.message, ...cause };
  const primary = primaryCode(error);
  if (primary === undefined) return { code: errorCode(error), message: errorMessage(error) };
  const code = codeOf(primary, path);
  if (code === "no_space")
    return { code, message: `no space left for the metadata in ${dirname(path)}`, cause: errorMessage(error) };
  return { code, message: `metadata: ${errorMessage(error)}`, ...cause };
}

function codeOf(primary: number, path: string): ErrorCode {
  if (primary === constraint) return "conflict";
  if (primary === full) return "no_space";
  if (primary === corrupt || primary === notDatabase) return "data_loss";
  // Growing the WAL's index on a full filesystem is reported as an I/O error.
  if (primary === ioError && isFull(path)) return "no_space";
  return "internal";
}

function primaryCode(error: unknown): number | undefined {
  if (typeof error !== "object" || error === null || !("errcode" in error)) return undefined;
  return typeof error.errcode === "number" ? error.errcode & 0xff : undefined;
}

function causeOf(error: unknown): { readonly cause?: string } {
  return error instanceof Error && error.cause !== undefined ? { cause: errorMessage(error.cause) } : {};
}

function isFull(path: string): boolean {
  try {
    const { bavail, bsize } = statfsSync(dirname(path));
    return bavail * bsize < 1 << 20;
  } catch {
    return false;
  }
}
