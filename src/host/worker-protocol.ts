/**
 * What a pool and its worker threads say to each other: messages that name their task by number, and errors as plain
 * values, because a structured clone would lose their class and code.
 */
import { EngineError, type ErrorCode, httpStatus } from "../base/errors.ts";

export type Chunk = Uint8Array<ArrayBuffer>;

/** Both ways: bytes (transferred), bytes taken by the reader, and "nobody reads any more". */
export type ByteMessage =
  | { readonly type: "data"; readonly task: number; readonly chunk: Chunk }
  | {
      readonly type: "credit";
      readonly task: number;
      readonly bytes: number;
      /** To be filled again (transferred). */
      readonly packets: readonly ArrayBuffer[];
    }
  | { readonly type: "discard"; readonly task: number };

export type ToWorker =
  | ByteMessage
  | {
      readonly type: "run";
      readonly task: number;
      /** Index in the shared array where 1 means: abort. */
      readonly slot: number;
      readonly module: string;
      readonly name: string;
      readonly argument: unknown;
    }
  | { readonly type: "end"; readonly task: number; readonly error?: PlainError }
  | { readonly type: "abort"; readonly task: number };

export type FromWorker =
  | ByteMessage
  | { readonly type: "done"; readonly task: number; readonly result: unknown }
  | { readonly type: "failed"; readonly task: number; readonly error: PlainError };

export type WorkerData = { readonly abortFlags: Int32Array<SharedArrayBuffer> };

/** An error as a value. `details` are `errno`, `syscall` and `path` of a system error. */
export type PlainError = {
  readonly name: string;
  readonly message: string;
  readonly code: string | undefined;
  readonly stack: string | undefined;
  readonly details: Readonly<Record<string, unknown>>;
  readonly cause: PlainError | undefined;
};

const deepestCause = 5;

export function toPlainError(error: unknown, depth = 0): PlainError {
  if (!(error instanceof Error))
    return { name: "Error", message: String(error), code: undefined, stack: undefined, details: {}, cause: undefined };
  const details: Record<string, unknown> = {};
  for (const key of ["errno", "syscall", "path"] as const) {
    const value: unknown = Reflect.get(error, key);
    if (typeof value === "string" || typeof value === "number") details[key] = value;
  }
  const code: unknown = Reflect.get(error, "code");
  const hasCause = error.cause !== undefined && depth < deepestCause;
  return {
    name: error.name,
    message: error.message,
    code: typeof code === "string" ? code : undefined,
    stack: error.stack,
    details,
    cause: hasCause ? toPlainError(error.cause, depth + 1) : undefined,
  };
}

const isErrorCode = (code: string | undefined): code is ErrorCode =>
  code !== undefined && Object.hasOwn(httpStatus, code);

export function fromPlainError(plain: PlainError): Error {
  const options = plain.cause === undefined ? undefined : { cause: fromPlainError(plain.cause) };
  const engine = plain.name === "EngineError" && isErrorCode(plain.code);
  const error = engine ? new EngineError(plain.code, plain.message, options) : new Error(plain.message, options);
  if (!engine) {
    if (plain.name !== "Error") Object.defineProperty(error, "name", { value: plain.name, configurable: true });
    if (plain.code !== undefined) Object.assign(error, { code: plain.code });
    Object.assign(error, plain.details);
  }
  if (plain.stack !== undefined) error.stack = plain.stack;
  return error;
}
