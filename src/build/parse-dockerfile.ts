/**
 * A Dockerfile as instructions. Where one begins and ends, which directives stand on top and which heredocs belong to it
 * is `dockerfile-ast`'s to say; lines are joined, flags taken off and mistakes named by Docker's own rules. Pure.
 */
import { type Instruction as AstInstruction, DockerfileParser } from "dockerfile-ast";
import { EngineError } from "../base/errors.ts";
import { splitWords } from "../base/shell-words.ts";

export type Instruction = {
  /** Upper case. */
  readonly keyword: string;
  /** Without keyword and flags, continued lines joined. */
  readonly args: string;
  /** `--name=value` before the arguments; a flag without value has "". */
  readonly flags: ReadonlyMap<string, string>;
  /** As written, in one line: what the step is called. */
  readonly text: string;
  /** From 1. */
  readonly line: number;
  readonly escapeChar: string;
  /** What stands between `<<EOF` and `EOF`, where that is all that the instruction says. */
  readonly heredoc: string | undefined;
};

/** Keyword -> flags that it may have. */
const keywords: ReadonlyMap<string, readonly string[]> = new Map([
  ["ADD", ["chown", "chmod"]],
  ["ARG", []],
  ["CMD", []],
  ["COPY", ["from", "chown", "chmod"]],
  ["ENTRYPOINT", []],
  ["ENV", []],
  ["EXPOSE", []],
  ["FROM", ["platform"]],
  ["HEALTHCHECK", ["interval", "timeout", "start-period", "start-interval", "retries"]],
  ["LABEL", []],
  ["MAINTAINER", []],
  ["ONBUILD", []],
  ["RUN", []],
  ["SHELL", []],
  ["STOPSIGNAL", []],
  ["USER", []],
  ["VOLUME", []],
  ["WORKDIR", []],
]);

/** Flags that only BuildKit knows. */
const buildKitFlags: ReadonlySet<string> = new Set([
  "RUN mount",
  "RUN network",
  "RUN security",
  "RUN device",
  "COPY link",
  "COPY parents",
  "COPY exclude",
  "ADD link",
  "ADD checksum",
  "ADD keep-git-dir",
  "ADD exclude",
  "ADD unpack",
]);

const empty = /^\s*(#.*)?$/;

/** Throws invalid_argument, `dockerfile parse error on line N: ...` where a line is to blame. */
export function parseDockerfile(source: string): readonly Instruction[] {
  const text = source.replace(/^\uFEFF/, "").replaceAll("\r\n", "\n");
  const document = DockerfileParser.parse(text);
  const escapeChar = document.getEscapeCharacter();
  const lines = text.split("\n");
  const instructions = document.getInstructions().map((found) => read(found, lines, escapeChar));
  if (instructions.length === 0)
    throw new EngineError("invalid_argument", "failed to parse Dockerfile: file with no instructions");
  return instructions;
}

/** One instruction out of the context of a file: a trigger of the base image. */
export function parseInstruction(text: string): Instruction {
  const [instruction, ...more] = parseDockerfile(text);
  if (instruction === undefined || more.length > 0)
    throw new EngineError("invalid_argument", `not one instruction: ${text}`);
  return instruction;
}

/** `dockerfile parse error on line N: why`. */
export const parseError = (line: number, why: string): EngineError =>
  new EngineError("invalid_argument", `dockerfile parse error on line ${line}: ${why}`);

function read(found: AstInstruction, lines: readonly string[], escapeChar: string): Instruction {
  const range = found.getRange();
  const line = range.start.line + 1;
  const own = lines.slice(range.start.line, range.end.line + 1);
  const heredocs = heredocsOf(found);
  const text = heredocs.length > 0 ? (own[0] ?? "").trim() : joinLines(own, escapeChar);
  const [, word = "", rest = ""] = /^(\S+)\s*(.*)$/s.exec(text) ?? [];
  const keyword = word.toUpperCase();
  const allowed = keywords.get(keyword);
  if (allowed === undefined) throw parseError(line, `unknown instruction: ${keyword}`);
  const { flags, args } = takeFlags(rest, escapeChar);
  for (const name of flags.keys()) if (!allowed.includes(name)) throw unknownFlag(line, keyword, name);
  const heredoc = heredocs.length > 0 ? heredocOf(keyword, args, own) : undefined;
  if (heredocs.length > 0 && heredoc === undefined)
    throw parseError(
      line,
      `this form of heredoc needs BuildKit: only RUN <<EOF is supported; use a file of the context, or RUN with && and \\`,
    );
  return { keyword, args, flags, text, line, escapeChar, heredoc };
}

/** Which instructions may have heredocs is the parser's to say. */
function heredocsOf(found: object): readonly unknown[] {
  if (!("getHeredocs" in found) || typeof found.getHeredocs !== "function") return [];
  const heredocs: unknown = found.getHeredocs();
  return Array.isArray(heredocs) ? heredocs : [];
}

/** Takes escaped line ends, comment lines and empty lines out; blanks elsewhere stay as they are. */
function joinLines(lines: readonly string[], escapeChar: string): string {
  const continued = new RegExp(`${escapeChar === "`" ? "`" : "\\\\"}[ \\t]*$`);
  const kept = lines.filter((line, index) => index === 0 || !empty.test(line));
  return kept
    .map((line) => line.replace(continued, ""))
    .join("")
    .trim();
}

function takeFlags(text: string, escapeChar: string): { flags: Map<string, string>; args: string } {
  const flags = new Map<string, string>();
  let args = text;
  while (args.startsWith("--")) {
    const [word = ""] = splitWords(args, { escapeChar });
    args = args.slice(word.length).trimStart();
    if (word === "--") break;
    const equals = word.indexOf("=");
    const name = equals < 0 ? word.slice(2) : word.slice(2, equals);
    flags.set(name, equals < 0 ? "" : unquote(word.slice(equals + 1)));
  }
  return { flags, args };
}

const unquote = (text: string): string => /^(["'])(.*)\1$/s.exec(text)?.[2] ?? text;

function unknownFlag(line: number, keyword: string, name: string): EngineError {
  if (buildKitFlags.has(`${keyword} ${name}`))
    return parseError(
      line,
      `the --${name} option of ${keyword} requires BuildKit, which is not supported: leave it out`,
    );
  return parseError(line, `unknown flag: ${name}`);
}

/** The script of `RUN <<EOF`; `<<-EOF` takes leading tabs off. Other uses of heredocs are undefined. */
function heredocOf(keyword: string, args: string, lines: readonly string[]): string | undefined {
  const match = /^<<(-?)(["']?)([A-Za-z0-9_.]+)\2$/.exec(args);
  if (keyword !== "RUN" || match === null) return undefined;
  const body = lines.slice(1);
  const strip = (line: string): string => (match[1] === "-" ? line.replace(/^\t+/, "") : line);
  const end = body.findIndex((line) => strip(line) === match[3]);
  if (end < 0) return undefined;
  return body
    .slice(0, end)
    .map((line) => `${strip(line)}\n`)
    .join("");
}
