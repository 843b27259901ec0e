/**
 * The instructions of a Dockerfile as stages: ARGs before the first FROM, then a stage for each FROM, up to the one
 * that is asked for. What can be known to be wrong without building is refused here. Pure.
 */
import { EngineError, errorMessage } from "../base/errors.ts";
import { splitWords } from "../base/shell-words.ts";
import { withHealthcheck } from "../image/change-healthcheck.ts";
import { jsonWords } from "../image/change-words.ts";
import { type Instruction, parseError } from "./parse-dockerfile.ts";

export type Stage = {
  /** Lower case, or undefined. */
  readonly name: string | undefined;
  /** As written, variables still in it. */
  readonly base: string;
  readonly from: Instruction;
  readonly instructions: readonly Instruction[];
};

export type Stages = { readonly globals: readonly Instruction[]; readonly stages: readonly Stage[] };

/** Keyword -> what is said when there are too few arguments. */
const needs: Readonly<Record<string, string>> = {
  ARG: "at least one argument",
  ENV: "at least one argument",
  EXPOSE: "at least one argument",
  HEALTHCHECK: "at least one argument",
  LABEL: "at least one argument",
  MAINTAINER: "exactly one argument",
  ONBUILD: "at least one argument",
  RUN: "at least one argument",
  STOPSIGNAL: "exactly one argument",
  USER: "exactly one argument",
  VOLUME: "at least one argument",
  WORKDIR: "exactly one argument",
};

/** `target`: name or number of the stage to end with; undefined: the last. Throws invalid_argument. */
export function splitStages(instructions: readonly Instruction[], target: string | undefined): Stages {
  const globals: Instruction[] = [];
  const stages: (Stage & { readonly instructions: Instruction[] })[] = [];
  for (const instruction of instructions) {
    checkArguments(instruction);
    const stage = stages.at(-1);
    if (instruction.keyword === "FROM") stages.push({ ...parseFrom(instruction), instructions: [] });
    else if (stage !== undefined) stage.instructions.push(instruction);
    else if (instruction.keyword === "ARG") globals.push(instruction);
    else throw new EngineError("invalid_argument", "no build stage in current context");
  }
  if (stages.length === 0) throw new EngineError("invalid_argument", "no build stage in current context");
  return { globals, stages: target === undefined ? stages : stages.slice(0, indexOfStage(stages, target) + 1) };
}

/** By name (any case) or number. Throws invalid_argument. */
function indexOfStage(stages: readonly Stage[], target: string): number {
  const named = stages.findIndex((stage) => stage.name === target.toLowerCase());
  if (named >= 0) return named;
  const number = /^\d{1,4}$/.test(target) ? Number(target) : stages.length;
  if (number >= stages.length)
    throw new EngineError("invalid_argument", `failed to reach build target ${target} in Dockerfile`);
  return number;
}

function parseFrom(from: Instruction): Pick<Stage, "name" | "base" | "from"> {
  const [base = "", as = "", name = "", ...more] = from.args.split(/\s+/);
  const isPlain = base !== "" && as === "";
  const isNamed = as.toUpperCase() === "AS" && name !== "" && more.length === 0;
  if (!isPlain && !isNamed) throw parseError(from.line, "FROM requires either one or three arguments");
  if (isNamed && !/^[a-z][a-z0-9-_.]*$/.test(name.toLowerCase()))
    throw parseError(
      from.line,
      `invalid name for build stage: ${JSON.stringify(name)}, name can't start with a number or contain symbols`,
    );
  return { name: isNamed ? name.toLowerCase() : undefined, base, from };
}

function checkArguments(instruction: Instruction): void {
  const { keyword, args, line, heredoc } = instruction;
  const need = needs[keyword];
  if (args === "" && heredoc === undefined && need !== undefined) throw parseError(line, `${keyword} requires ${need}`);
  if (keyword === "ONBUILD") checkTrigger(args, line);
  if (keyword === "COPY" || keyword === "ADD") checkCopy(instruction);
  if (keyword === "ENV" || keyword === "LABEL") checkPairs(instruction);
  if (keyword === "SHELL" && jsonWords(args) === undefined)
    throw parseError(line, "SHELL requires the arguments to be in JSON form");
  if (keyword === "HEALTHCHECK") blaming(line, () => withHealthcheck(instruction));
}

function checkCopy({ keyword, args, line, escapeChar }: Instruction): void {
  const words = jsonWords(args) ?? splitWords(args, { escapeChar });
  if (words.length > 1) return;
  const one = words.length === 1 ? ", but only one was provided. Destination could not be determined" : "";
  throw parseError(line, `${keyword} requires at least two arguments${one}`);
}

function checkPairs({ keyword, args, line, escapeChar }: Instruction): void {
  const words = splitWords(args, { escapeChar });
  const bad = words[0]?.includes("=") === true ? words.find((word) => !word.includes("=")) : undefined;
  if (bad !== undefined)
    throw parseError(line, `Syntax error - can't find = in ${JSON.stringify(bad)}. Must be of the form: name=value`);
  if (words.length === 1 && words[0]?.includes("=") === false)
    throw parseError(line, `${keyword} must have two arguments`);
}

function blaming(line: number, check: () => unknown): void {
  try {
    check();
  } catch (cause) {
    throw parseError(line, errorMessage(cause));
  }
}

function checkTrigger(args: string, line: number): void {
  const keyword = (/^\S*/.exec(args)?.[0] ?? "").toUpperCase();
  if (keyword === "ONBUILD") throw parseError(line, "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed");
  if (keyword === "FROM" || keyword === "MAINTAINER")
    throw parseError(line, `${keyword} isn't allowed as an ONBUILD trigger`);
}
