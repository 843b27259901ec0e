/**
 * `docker top`: ps(1) of the host with the caller's options, kept to the rows of the container's processes.
 * Refusals and messages are dockerd's (daemon/top_unix.go).
 */
import { EngineError } from "../base/errors.ts";
import { runProgram } from "../host/program.ts";
import type { ProcessTable } from "./runtime.ts";

const deadline = 10_000;

/** `args` empty: `-ef`. */
export async function listProcesses(pids: readonly number[], args: readonly string[]): Promise<ProcessTable> {
  const given = args.length === 0 ? ["-ef"] : args;
  refuseRenamedPid(given.join(" "));
  const quick = await runProgram("ps", [...given, `-q${pids.join(",")}`], { deadline });
  // Some options, such as f, do not go with q.
  const result = quick.code === 0 ? quick : await runProgram("ps", given, { deadline });
  if (result.code !== 0)
    throw new EngineError("invalid_argument", result.stderr.split("\n")[0] || `ps: exit status ${result.code}`);
  return parseTable(result.stdout, new Set(pids));
}

/** A column of another name that shows as PID would let foreign rows through. */
function refuseRenamedPid(args: string): void {
  for (const [, name, shown] of args.matchAll(/\s+([^\s]*)=\s*(PID[^\s]*)/g))
    if (name !== "pid") throw new EngineError("invalid_argument", `specifying "${name}=${shown}" is not allowed`);
}

function parseTable(output: string, pids: ReadonlySet<number>): ProcessTable {
  const [header = "", ...lines] = output.split("\n");
  const titles = fieldsOf(header);
  const column = titles.indexOf("PID");
  if (column < 0) throw new EngineError("invalid_argument", "Couldn't find PID field in ps output");
  const processes: string[][] = [];
  let shown = false;
  for (const line of lines) {
    const fields = fieldsOf(line);
    if (fields.length === 0) continue;
    // Threads (-m) follow their process with "-" for a pid.
    if (fields[column] !== "-") shown = pids.has(pidOf(fields[column]));
    if (shown) processes.push([...fields.slice(0, titles.length - 1), fields.slice(titles.length - 1).join(" ")]);
  }
  return { titles, processes };
}

function pidOf(text: string | undefined): number {
  const pid = Number(text);
  if (!Number.isInteger(pid)) throw new EngineError("internal", `Unexpected pid '${text}' in ps output`);
  return pid;
}

const fieldsOf = (line: string): string[] => line.split(/[ \t\v\f\r]+/).filter((field) => field !== "");
