/** Why a process did not start, in Docker's exit codes: 127 no such program, 126 not executable, 128 anything else. */
import { EngineError, errorCode, errorMessage } from "../base/errors.ts";
import { startExitCode } from "../runtime/runtime-words.ts";

export type StartFailure = { readonly exitCode: number; readonly error: EngineError };

export function startFailure(cause: unknown): StartFailure {
  const message = errorMessage(cause);
  const exitCode = startExitCode(message) ?? 128;
  if (cause instanceof EngineError) return { exitCode, error: cause };
  return { exitCode, error: new EngineError(errorCode(cause), message, { cause }) };
}
