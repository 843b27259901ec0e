/**
 * The one error class of the engine, its closed list of codes, and the one table from code to HTTP status.
 * The server reads the table forwards, the client backwards. A code is set where the failure is understood;
 * everything else is wrapped with a `cause` and stays `internal`.
 */

/** Code -> HTTP status of the Docker Engine API. */
export const httpStatus = {
  invalid_argument: 400,
  unauthorized: 401,
  forbidden: 403,
  not_found: 404,
  not_acceptable: 406,
  conflict: 409,
  not_modified: 304,
  unsupported: 501,
  no_space: 507,
  unavailable: 503,
  deadline_exceeded: 504,
  canceled: 499,
  data_loss: 500,
  internal: 500,
} as const;

export type ErrorCode = keyof typeof httpStatus;

/** Every failure that the engine understands. `message` is for people: it names the object and the next step. */
export class EngineError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.name = "EngineError";
    this.code = code;
  }
}

/** The code of any thrown value; what nobody understood is `internal`. */
export function errorCode(error: unknown): ErrorCode {
  if (error instanceof EngineError) return error.code;
  if (systemCode(error) === "ENOSPC" || systemCode(error) === "EDQUOT") return "no_space";
  return "internal";
}

/** True when `error` is an {@link EngineError} of `code`. */
export function isError(error: unknown, code: ErrorCode): error is EngineError {
  return error instanceof EngineError && error.code === code;
}

/** The text of any thrown value, without a stack. */
export function errorMessage(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Node has no name for a quota that is used up. */
const edquot = 122;

/** `ENOENT`, `EBUSY`... of a failed system call, else undefined. */
export function systemCode(error: unknown): string | undefined {
  if (typeof error !== "object" || error === null || !("code" in error)) return undefined;
  if (error.code === "UNKNOWN" && "errno" in error && error.errno === -edquot) return "EDQUOT";
  return typeof error.code === "string" ? error.code : undefined;
}
