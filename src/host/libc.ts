/**
 * The C library of this process, reached through koffi: the only file that knows koffi, so that another foreign
 * function interface can take its place. A function is bound on its first call and is cheap afterwards (about 1 us).
 *
 * Promises: errno is read right after the call that set it; a failed call throws an Error with `code` ("ENOENT"),
 * `errno`, `syscall` and `path`, as Node's own file functions do; a NUL byte in a name is EINVAL, never a truncation.
 */
import { constants } from "node:os";
import koffi from "koffi";

/** A file name: bytes, or text that is encoded as UTF-8. */
export type Name = string | Uint8Array;

/** What a bound function accepts. */
export type NativeArgument = number | bigint | string | Uint8Array | ArrayBufferView | null;
export type NativeFunction = (...args: NativeArgument[]) => number;

/** A failed system call. */
export type SystemError = Error & {
  readonly code: string;
  readonly errno: number;
  readonly syscall: string;
  readonly path?: string;
};

let library: ReturnType<typeof koffi.load> | undefined;

/** The libc that Node itself is linked with (glibc or musl). */
function libc(): ReturnType<typeof koffi.load> {
  library ??= koffi.load(null);
  return library;
}

/** Binds a C prototype on its first call. */
export function native(prototype: string): NativeFunction {
  let bound: NativeFunction | undefined;
  return (...args) => {
    bound ??= libc().func(prototype) as NativeFunction;
    return bound(...args);
  };
}

export type AsyncResult = { readonly result: number; readonly errno: number };

/** As `native`, but the call runs on one of Node's I/O threads: for calls that wait for a disk. */
export function nativeAsync(prototype: string): (...args: NativeArgument[]) => Promise<AsyncResult> {
  let bound: ReturnType<ReturnType<typeof libc>["func"]> | undefined;
  return (...args) => {
    bound ??= libc().func(prototype);
    const call = bound.async;
    return new Promise((resolve, reject) => {
      // koffi sets errno to that of the other thread before it calls back.
      call(...args, (error: unknown, result: number) => {
        if (error !== null && error !== undefined) reject(error);
        else resolve({ result, errno: koffi.errno() });
      });
    });
  };
}

/**
 * A system call by number, for those without a wrapper in every libc. `parameters` are the C types of its arguments.
 * `syscall` is variadic in C; on the supported machines the registers are the same for a fixed prototype.
 */
export function nativeSyscall(number: number, parameters: string): NativeFunction {
  const bound = native(`long syscall(long number, ${parameters})`);
  return (...args) => bound(number, ...args);
}

/** Numbers that differ between machines; those from 424 on are the same everywhere. */
export function syscallNumber(x64: number, generic: number): number {
  if (process.arch === "x64") return x64;
  if (process.arch === "arm64" || process.arch === "riscv64") return generic;
  throw new Error(`no system call numbers for ${process.arch}: x64, arm64 and riscv64 are known`);
}

const shared = new Map<number, string>();
for (const [name, number] of Object.entries(constants.errno)) shared.set(number, name);
// Two names, one number: the ones that Node prints. And what Node has no name for, but filesystems answer.
for (const [name, number] of Object.entries({ EAGAIN: 11, ENOTSUP: 95, EUCLEAN: 117, ENOMEDIUM: 123, ENOKEY: 126 }))
  shared.set(number, name);

/** The errno of the last failed call. */
export const lastErrno = (): number => koffi.errno();

/** `ENOENT` of 2. */
export const errnoName = (errno: number): string => shared.get(errno) ?? `E${errno}`;

const strerror = native("const char *strerror(int)") as unknown as (errno: number) => string;

/** Makes the Error of a failed call. */
export function systemError(syscall: string, path?: Name, errno: number = lastErrno()): SystemError {
  const code = errnoName(errno);
  const shown = path === undefined ? undefined : typeof path === "string" ? path : Buffer.from(path).toString();
  const words = strerror(errno).toLowerCase();
  const error = new Error(`${code}: ${words}, ${syscall}${shown === undefined ? "" : ` '${shown}'`}`);
  return Object.assign(error, { code, errno, syscall, ...(shown === undefined ? {} : { path: shown }) });
}

/** Passes a result on, or throws when it is negative. */
export function check(result: number, syscall: string, path?: Name): number {
  if (result < 0) throw systemError(syscall, path);
  return result;
}

const slotSize = 8192;
const slots = [Buffer.alloc(slotSize), Buffer.alloc(slotSize)] as const;

/**
 * `name` as a C string, for the very next call only: two slots per thread are used again and again (a call has at
 * most two names). Throws EINVAL on a NUL byte.
 */
export function cString(name: Name, slot: 0 | 1 = 0): Buffer {
  const text = typeof name === "string";
  if (text ? name.includes("\0") : name.includes(0)) throw systemError("name", name, constants.errno.EINVAL);
  // A UTF-16 unit is at most three bytes of UTF-8.
  const bound = text ? name.length * 3 : name.length;
  const buffer = bound < slotSize ? slots[slot] : Buffer.alloc(bound + 1);
  let end = name.length;
  if (text) end = buffer.write(name);
  else buffer.set(name);
  buffer[end] = 0;
  return buffer;
}
