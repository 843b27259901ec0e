/**
 * What runc and conmon say their versions are. Nothing depends on it but what people are shown, so an opening waits for it only
 * for moments: on a machine that is overloaded "unknown" becomes the version when the program answers.
 */
import { basename } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { isError } from "../base/errors.ts";
import { runProgram } from "../host/program.ts";

const patienceMs = 2000;
const deadline = 120_000;

export type ProgramVersions = Disposable & {
  /** Program -> version, or "unknown"; what it says may change. */
  readonly known: Readonly<Record<string, string>>;
};

/** Throws unsupported when a program cannot be run. Disposing gives up what has not answered. */
export async function readVersions(...programs: readonly string[]): Promise<ProgramVersions> {
  const known: Record<string, string> = Object.fromEntries(programs.map((path) => [basename(path), "unknown"]));
  const stop = new AbortController();
  const read = async (path: string): Promise<void> => {
    const { stdout } = await runProgram(path, ["--version"], { deadline, signal: stop.signal });
    known[basename(path)] = /version:?\s+(\S+)/.exec(stdout)?.[1] ?? "unknown";
  };
  const reading = Promise.all(programs.map(read)).then(
    () => undefined,
    (error: unknown) => {
      if (!stop.signal.aborted && !isError(error, "deadline_exceeded")) throw error;
    },
  );
  const dispose = (): void => stop.abort(new Error("the runtime is closed"));
  try {
    await Promise.race([reading, sleep(patienceMs, undefined, { ref: false })]);
  } catch (error) {
    dispose();
    throw error;
  }
  // What fails later is what nobody waits for.
  reading.catch(() => undefined);
  return { known, [Symbol.dispose]: dispose };
}
