/**
 * A path that a plugin names is a stranger's: it must be absolute, a directory, and not among the engine's own files. It
 * is looked at by programs with a deadline, because the filesystem behind it may never answer.
 */
import { isAbsolute, relative } from "node:path";
import { EngineError, errorCode, errorMessage } from "../../base/errors.ts";
import { runProgram } from "../../host/program.ts";

/** Milliseconds for one look. */
const deadline = 10_000;
const longest = 4096;

/** The path, or undefined for what is none. */
export function absolutePath(path: string): string | undefined {
  return isAbsolute(path) && !path.includes("\0") && path.length < longest ? path : undefined;
}

/** The path without links. Throws internal, or deadline_exceeded, with a text that names the plugin and the path. */
export async function checkMountpoint(
  path: string,
  { plugin, forbidden }: { readonly plugin: string; readonly forbidden: readonly string[] },
): Promise<string> {
  const wrong = (problem: string): EngineError =>
    new EngineError(
      "internal",
      `plugin ${JSON.stringify(plugin)} mounted the volume at ${JSON.stringify(path)}: ${problem}`,
    );
  if (absolutePath(path) === undefined) throw wrong("that is not an absolute path");
  const real = await output("realpath", ["-ez", "--", path], wrong);
  const found = real.slice(0, real.indexOf("\0"));
  const kind = await output("stat", ["--format=%F", "--", found], wrong);
  if (kind.trim() !== "directory") throw wrong("that is not a directory");
  const holder = forbidden.find((root) => isWithin(found, root) || isWithin(root, found));
  if (holder !== undefined) throw wrong(`${holder} is the engine's own`);
  return found;
}

const isWithin = (path: string, root: string): boolean => {
  const way = relative(root, path);
  return way === "" || (way !== ".." && !way.startsWith("../"));
};

async function output(
  program: string,
  args: readonly string[],
  wrong: (problem: string) => EngineError,
): Promise<string> {
  const { code, stdout } = await runProgram(program, args, { deadline }).catch((error: unknown) => {
    const { message } = wrong(errorMessage(error));
    throw new EngineError(errorCode(error), message, { cause: error });
  });
  if (code !== 0) throw wrong("there is no such directory");
  return stdout;
}
