/**
 * What an OCI runtime says when it fails, and how dockerd passes it on: clients take their exit code (125, 126, 127)
 * from these words.
 */
import { EngineError } from "../base/errors.ts";

/** The message of the last error in a log of JSON lines; the text itself when it is none. */
export function lastError(log: string): string | undefined {
  const messages = log.split("\n").flatMap((line) => {
    const entry = decode(line);
    return entry !== undefined && (entry.level === "error" || entry.level === "fatal") ? [entry.msg] : [];
  });
  const last = messages.at(-1) ?? log.trim();
  return last === "" ? undefined : last;
}

function decode(line: string): { readonly level: string; readonly msg: string } | undefined {
  try {
    const { level, msg } = JSON.parse(line) as { level?: unknown; msg?: unknown };
    return typeof level === "string" && typeof msg === "string" ? { level, msg } : undefined;
  } catch {
    return undefined;
  }
}

const lasting =
  "Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is the expected type";

/** The failure of `create`, as dockerd words it. */
export function createFailure(words: string): EngineError {
  const message = `failed to create task for container: failed to create shim task: OCI runtime create failed: ${words}: unknown`;
  const mistaken = /not a directory/i.test(words);
  return understood(mistaken ? `${message}: ${lasting}` : message);
}

/** The failure of `exec`, as dockerd words it. */
export const execFailure = (words: string): EngineError => understood(`OCI runtime exec failed: ${words}: unknown`);

function understood(message: string): EngineError {
  return new EngineError(startExitCode(message) === undefined ? "internal" : "invalid_argument", message);
}

/** The exit code that Docker gives a command that could not start: 127 not found, 126 not executable; else undefined. */
export function startExitCode(message: string): 126 | 127 | undefined {
  if (/executable file not found|no such file or directory|system cannot find the file specified/i.test(message))
    return 127;
  if (/permission denied|is a directory/i.test(message)) return 126;
  return /not a directory/i.test(message) ? 127 : undefined;
}
