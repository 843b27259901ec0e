/**
 * The OCI runtime as a program (runc or crun): one short call, with a deadline, and its own words when it fails.
 */
import { EngineError } from "../base/errors.ts";
import { runProgram } from "../host/program.ts";
import { lastError } from "./runtime-words.ts";

export type OciProgram = {
  readonly path: string;
  /** Its `--root`. */
  readonly state: string;
};

const deadline = 60_000;

/** Global options before the command; the log goes to stderr as JSON. */
export async function runOciProgram(program: OciProgram, ...args: readonly string[]): Promise<string> {
  const all = ["--root", program.state, "--log-format", "json", ...args];
  const { code, stdout, stderr } = await runProgram(program.path, all, { deadline });
  if (code === 0) return stdout;
  throw new EngineError("internal", `${program.path} ${args[0] ?? ""}: ${lastError(stderr) ?? `exit code ${code}`}`);
}
