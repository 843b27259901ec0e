/**
 * A host that fails: this module, loaded first into the test's thread and (by NODE_OPTIONS) into every worker, puts itself
 * between the engine and the kernel: koffi's C functions, `node:fs`, `node:sqlite` and `spawnSync`. While it is armed it counts
 * the calls of all threads; call N fails with the errno asked for, and the kernel never sees it (a close happens and then
 * fails, as close(2) does). `onward` lets every later call fail too, but for closes: a disk that stays broken.
 *
 * SQLite's own system calls are below this; `sqlite-faults.test.ts` fails those.
 */
import childProcess from "node:child_process";
import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { constants } from "node:os";
import { DatabaseSync, StatementSync } from "node:sqlite";
import { getEnvironmentData, isMainThread, setEnvironmentData, threadName } from "node:worker_threads";

// The writer of the database calls no C function, and starts often.
const koffi = threadName === "metadata" ? undefined : (await import("koffi")).default;

const key = "strata-faulty-host";
const labelSize = 120;
type Shared = { readonly numbers: Int32Array; readonly label: Uint8Array };
type Callable = (...args: unknown[]) => unknown;

const slot = { armed: 0, count: 1, at: 2, errno: 3, onward: 4, fired: 5 } as const;

function sharedState(): Shared | undefined {
  const found = getEnvironmentData(key);
  if (found instanceof SharedArrayBuffer)
    return { numbers: new Int32Array(found, 0, 8), label: new Uint8Array(found, 32, labelSize) };
  if (!isMainThread || process.env.STRATA_FAULTS_ROOT === undefined) return undefined;
  setEnvironmentData(key, new SharedArrayBuffer(32 + labelSize));
  // Every start of the store starts a thread.
  process.env.NODE_COMPILE_CACHE ??= new URL("../../node_modules/.cache/strata", import.meta.url).pathname;
  process.env.NODE_OPTIONS = `--import=${import.meta.url}`;
  return sharedState();
}

// Only paths of the store under test, and what it asks of the kernel, are counted.
process.env.STRATA_FAULTS_ROOT ??= isMainThread ? fs.mkdtempSync("/tmp/strata-faults-") : undefined;
const root = process.env.STRATA_FAULTS_ROOT ?? "";
const state = sharedState();

/** The scratch folder whose paths fail. */
export const faultsRoot = root;

export type Plan = { readonly at: number; readonly errno: number; readonly onward?: boolean };
export type Outcome = {
  readonly calls: number;
  /** Calls that failed, the first one's name. */
  readonly fired: number;
  readonly label: string;
};

function shared(): Shared {
  if (state === undefined) throw new Error("the faulty host works in a test's main thread and its workers");
  return state;
}

export function arm({ at, errno, onward = false }: Plan): void {
  const { numbers, label } = shared();
  label.fill(0);
  numbers.set([0, 0, at, errno, onward ? 1 : 0, 0]);
  Atomics.store(numbers, slot.armed, 1);
}

export function disarm(): Outcome {
  const { numbers, label } = shared();
  Atomics.store(numbers, slot.armed, 0);
  const end = label.indexOf(0);
  return {
    calls: numbers[slot.count] ?? 0,
    fired: numbers[slot.fired] ?? 0,
    label: Buffer.from(label.subarray(0, end < 0 ? labelSize : end)).toString(),
  };
}

/** The errno that the call must fail with, if it must. */
function strike(label: string, closes = false): number | undefined {
  if (state === undefined || Atomics.load(state.numbers, slot.armed) !== 1) return undefined;
  const { numbers } = state;
  const count = Atomics.add(numbers, slot.count, 1) + 1;
  const at = numbers[slot.at] ?? 0;
  const fails = count === at || (numbers[slot.onward] === 1 && count > at && !closes);
  if (!fails) return undefined;
  if (count === at) Buffer.from(state.label.buffer, state.label.byteOffset, labelSize - 1).write(label);
  Atomics.add(numbers, slot.fired, 1);
  return numbers[slot.errno] ?? constants.errno.EIO;
}

const nameOf = (errno: number): string =>
  Object.entries(constants.errno).find(([, number]) => number === errno)?.[0] ?? `E${errno}`;

/** As Node makes them; it has no name for EDQUOT. */
function nodeError(errno: number, syscall: string, path: string | undefined): Error {
  const code = errno === constants.errno.EDQUOT ? "UNKNOWN" : nameOf(errno);
  const message = `${code}: injected, ${syscall}${path === undefined ? "" : ` '${path}'`}`;
  return Object.assign(new Error(message), { code, errno: -errno, syscall, ...(path === undefined ? {} : { path }) });
}

const short = (path: string | undefined): string =>
  path === undefined ? "" : ` ${path.replace(root, "").replace(/[0-9a-f]{12,}/g, "*")}`;

/** Wraps members of `object`; `target` says which path a call is about, or false when it is not ours. */
function wrap(
  object: object,
  names: readonly string[],
  { async, target }: { readonly async: boolean; readonly target: (args: unknown[]) => string | undefined | false },
): void {
  for (const name of names) {
    const original: unknown = Reflect.get(object, name);
    if (typeof original !== "function") continue;
    const real = original as Callable;
    const plain = name.replace(/Sync$/, "");
    const wrapped = function (this: unknown, ...args: unknown[]): unknown {
      const path = target(args);
      const closes = plain === "close";
      const errno = path === false ? undefined : strike(`${plain}${short(path || undefined)}`, closes);
      if (errno === undefined) return real.apply(this, args);
      const error = nodeError(errno, plain, path || undefined);
      const done = closes ? real.apply(this, args) : undefined;
      if (!async) throw error;
      return Promise.resolve(done).then(() => Promise.reject(error));
    };
    // `realpathSync.native` and the like
    Reflect.set(object, name, Object.assign(wrapped, original));
  }
}

const ours = ([path]: unknown[]): string | false => {
  const text = typeof path === "string" || path instanceof Uint8Array ? path.toString() : "";
  return text.startsWith(root) || text === "/proc/self/mountinfo" ? text : false;
};
const readlink = fs.readlinkSync;
/** Node's own loader reads by descriptors, too. */
const descriptor = ([fd]: unknown[]): string | false => {
  if (state === undefined || Atomics.load(state.numbers, slot.armed) !== 1 || typeof fd !== "number") return false;
  return ours([readlink(`/proc/self/fd/${fd}`)]);
};
const handle = (): undefined => undefined;

async function wrapFiles(): Promise<void> {
  const byPath =
    "open stat lstat statfs readlink readFile writeFile unlink rm rmdir mkdir mkdtemp rename readdir access chmod chown realpath".split(
      " ",
    );
  const byDescriptor = "close read write fsync fdatasync ftruncate fstat fchmod fchown".split(" ");
  const sync = (names: readonly string[]): string[] => names.map((name) => `${name}Sync`);
  wrap(fs, sync(byPath), { async: false, target: ours });
  wrap(fs, sync(byDescriptor), { async: false, target: descriptor });
  wrap(fs.promises, byPath, { async: true, target: ours });
  const opened = await fs.promises.open("/dev/null");
  const methods = "read write readFile writeFile sync datasync stat chmod truncate".split(" ");
  wrap(Object.getPrototypeOf(opened), methods, { async: true, target: handle });
  await opened.close();
}

/** System calls by number, for the labels. */
const numbered: Readonly<Record<number, string>> = {
  217: "getdents64",
  259: "mknodat",
  316: "renameat2",
  326: "copy_file_range",
  428: "open_tree",
  429: "move_mount",
  430: "fsopen",
  431: "fsconfig",
  432: "fsmount",
  437: "openat2",
  442: "mount_setattr",
  452: "fchmodat2",
};

type Koffi = typeof import("koffi")["default"];
type Bound = Callable & { async: Callable };

function wrapBound(koffi: Koffi, bound: Bound, name: string): Callable {
  if (name === "strerror") return bound;
  const label = (args: readonly unknown[]): string =>
    name === "syscall" ? (numbered[Number(args[0])] ?? `syscall ${args[0]}`) : name;
  const wrapped = (...args: unknown[]): unknown => {
    const errno = strike(label(args), name === "close");
    if (errno === undefined) return bound(...args);
    if (name === "close") bound(...args);
    koffi.errno(errno);
    return -1;
  };
  const later = (...args: unknown[]): unknown => {
    const errno = strike(label(args));
    if (errno === undefined) return bound.async(...args);
    const callback = args.at(-1) as Callable;
    setImmediate(() => {
      koffi.errno(errno);
      callback(null, -1);
    });
    return undefined;
  };
  return Object.assign(wrapped, { async: later });
}

function wrapKoffi(koffi: Koffi): void {
  const load = koffi.load;
  Reflect.set(koffi, "load", (...args: Parameters<typeof load>) => {
    const library = load(...args);
    const func = (prototype: string): Callable => {
      const name = /([a-z0-9_]+)\s*\(/i.exec(prototype)?.[1] ?? prototype;
      return wrapBound(koffi, library.func(prototype) as unknown as Bound, name);
    };
    return { func };
  });
}

/** SQLite's primary codes, and whether it undoes the transaction by itself then. */
const sqliteCodes: Readonly<Record<number, number>> = {
  [constants.errno.ENOSPC]: 13,
  [constants.errno.EDQUOT]: 13,
  [constants.errno.ENOMEM]: 7,
};

function wrapDatabase(): void {
  const fail = (errno: number, label: string): never => {
    const errcode = sqliteCodes[errno] ?? 10;
    throw Object.assign(new Error(`injected into ${label}`), { code: "ERR_SQLITE_ERROR", errcode, errstr: "injected" });
  };
  const exec = DatabaseSync.prototype.exec;
  Reflect.set(DatabaseSync.prototype, "exec", function (this: DatabaseSync, sql: string): unknown {
    const errno = strike(`sqlite ${sql.slice(0, 40)}`);
    if (errno === undefined) return exec.call(this, sql);
    // A failed commit is undone; after other failures it may be either.
    if (this.isTransaction && (sql === "COMMIT" || errno === constants.errno.EIO)) exec.call(this, "ROLLBACK");
    return fail(errno, sql);
  });
  for (const name of ["run", "all", "get"] as const) {
    const real = StatementSync.prototype[name] as Callable;
    Reflect.set(StatementSync.prototype, name, function (this: StatementSync, ...args: unknown[]): unknown {
      const label = `sqlite ${name} ${this.sourceSQL.replace(/\s+/g, " ").slice(0, 60)}`;
      const errno = strike(label);
      if (errno === undefined) return real.apply(this, args);
      // Reading needs no room.
      return fail(name !== "run" && errno !== constants.errno.ENOMEM ? constants.errno.EIO : errno, label);
    });
  }
}

/** Programs that a driver asks for every change; one that fails has done nothing, and says why. */
const programs = new Set(["zfs", "zpool"]);

function wrapPrograms(): void {
  const real = childProcess.spawn as Callable;
  Reflect.set(childProcess, "spawn", (...args: unknown[]): unknown => {
    const [file, words, options] = args;
    if (typeof file !== "string" || !programs.has(file) || !Array.isArray(words)) return real(...args);
    const errno = strike(`spawn ${file} ${words[0]}`);
    if (errno === undefined) return real(...args);
    return real("sh", ["-c", 'echo "$1" >&2; exit 1', "sh", saidOf(errno)], options);
  });
}

/** As the programs say it. */
const saidOf = (errno: number): string =>
  errno === constants.errno.ENOSPC || errno === constants.errno.EDQUOT
    ? "cannot do it: out of space"
    : `cannot do it: ${nameOf(errno)}`;

function wrapSpawn(): void {
  const real = childProcess.spawnSync as Callable;
  Reflect.set(childProcess, "spawnSync", (...args: unknown[]): unknown => {
    const errno = strike(`spawn ${String(args[0])}`);
    if (errno === undefined) return real(...args);
    return { error: nodeError(errno, `spawnSync ${String(args[0])}`, undefined), status: null, signal: null };
  });
}

if (state !== undefined) {
  await wrapFiles();
  if (koffi !== undefined) wrapKoffi(koffi);
  wrapDatabase();
  wrapSpawn();
  wrapPrograms();
  syncBuiltinESMExports();
}
