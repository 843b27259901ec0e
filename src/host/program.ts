/**
 * Running a program to its end: never through a shell, always with a deadline, with bounded output. The program gets a
 * process group of its own, and the whole group is ended when time is up or the caller leaves.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { constants } from "node:os";
import { basename } from "node:path";
import { EngineError, systemCode } from "../base/errors.ts";

export type ProgramOptions = {
  /** Given on stdin; without it stdin is empty. */
  readonly input?: string | Uint8Array;
  /** Milliseconds after which the program is ended. */
  readonly deadline: number;
  readonly signal?: AbortSignal;
  /** The whole environment; by default that of this process. */
  readonly env?: Readonly<Record<string, string>>;
  /** Most bytes kept of stdout, and of stderr; a program that writes more is ended. 1 MiB by default. */
  readonly maxOutput?: number;
  /** Where it runs; by default where this process does. */
  readonly directory?: string;
};

export type ProgramResult = {
  /** Exit code, or 128 and the number of the signal that ended it, as shells say it. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
};

/** How long a program that was asked to end (SIGTERM) may take before it is killed. */
const graceMs = 2000;
/** And how long until it is let go of, still there. */
const abandonMs = 1000;

/**
 * Runs `file` (a path, or a name in PATH) and waits for it. A code other than 0 is a result, not an error. Throws
 * unsupported when there is no such program, deadline_exceeded, and the signal's reason when that aborts.
 */
export async function runProgram(
  file: string,
  args: readonly string[],
  options: ProgramOptions,
): Promise<ProgramResult> {
  options.signal?.throwIfAborted();
  const child = spawn(file, args, {
    detached: true,
    stdio: [options.input === undefined ? "ignore" : "pipe", "pipe", "pipe"],
    ...(options.env === undefined ? {} : { env: { ...options.env } }),
    ...(options.directory === undefined ? {} : { cwd: options.directory }),
  });
  const run = new Run(child, basename(file), options);
  try {
    return await run.result;
  } finally {
    run.close();
  }
}

class Run {
  readonly result: Promise<ProgramResult>;
  readonly #child: ChildProcess;
  readonly #name: string;
  readonly #options: ProgramOptions;
  readonly #timers: NodeJS.Timeout[] = [];
  readonly #onAbort = (): void => this.#end(this.#options.signal?.reason);
  #failure: { readonly error: unknown } | undefined;
  #abandon: (error: unknown) => void = () => undefined;

  constructor(child: ChildProcess, name: string, options: ProgramOptions) {
    this.#child = child;
    this.#name = name;
    this.#options = options;
    const stdout = this.#collect("stdout");
    const stderr = this.#collect("stderr");
    this.result = new Promise((resolve, reject) => {
      this.#abandon = reject;
      child.once("error", (error) => reject(this.#spawnError(error)));
      child.once("close", (code, signal) => {
        if (this.#failure !== undefined) reject(this.#failure.error);
        else resolve({ code: exitCode(code, signal), stdout: stdout(), stderr: stderr() });
      });
    });
    this.#giveInput();
    this.#after(options.deadline, () => this.#end(this.#late()));
    options.signal?.addEventListener("abort", this.#onAbort, { once: true });
  }

  #late(): EngineError {
    return new EngineError("deadline_exceeded", `${this.#name} did not end within ${this.#options.deadline} ms`);
  }

  #after(milliseconds: number, action: () => void): void {
    this.#timers.push(setTimeout(action, milliseconds));
  }

  #spawnError(error: Error): Error {
    if (systemCode(error) !== "ENOENT" && systemCode(error) !== "EACCES") return error;
    const words = `cannot run ${this.#name}: install it, or put its directory in PATH`;
    return new EngineError("unsupported", words, { cause: error });
  }

  #collect(name: "stdout" | "stderr"): () => string {
    const chunks: Buffer[] = [];
    const { maxOutput = 1024 * 1024 } = this.#options;
    let length = 0;
    this.#child[name]?.on("data", (chunk: Buffer) => {
      length += chunk.length;
      if (length <= maxOutput) chunks.push(chunk);
      else this.#end(new EngineError("internal", `${this.#name} wrote more than ${maxOutput} bytes to ${name}`));
    });
    return () => Buffer.concat(chunks).toString();
  }

  #giveInput(): void {
    const { stdin } = this.#child;
    // A program may end without reading all of it.
    stdin?.on("error", () => undefined);
    stdin?.end(this.#options.input);
  }

  /** Ends the whole group, politely first; the result will be `error`. */
  #end(error: unknown): void {
    if (this.#failure !== undefined) return;
    this.#failure = { error };
    this.#signal("SIGTERM");
    this.#after(graceMs, () => {
      this.#signal("SIGKILL");
      // Something that left the group may hold the pipes open for ever.
      this.#after(100, () => {
        this.#child.stdout?.destroy();
        this.#child.stderr?.destroy();
      });
      // One that waits in the kernel for what never comes is not ended by any signal.
      this.#after(abandonMs, () => {
        this.#child.unref();
        this.#abandon(error);
      });
    });
  }

  #signal(signal: NodeJS.Signals): void {
    if (this.#child.pid === undefined) return;
    try {
      process.kill(-this.#child.pid, signal);
    } catch (error) {
      if (systemCode(error) !== "ESRCH") throw error;
    }
  }

  close(): void {
    // The program ended, but what it started may have ignored the polite word.
    if (this.#failure !== undefined) this.#signal("SIGKILL");
    for (const timer of this.#timers) clearTimeout(timer);
    this.#options.signal?.removeEventListener("abort", this.#onAbort);
  }
}

const signalNumbers: Readonly<Record<string, number>> = constants.signals;

const exitCode = (code: number | null, signal: NodeJS.Signals | null): number =>
  code ?? 128 + (signal === null ? 0 : (signalNumbers[signal] ?? 0));
